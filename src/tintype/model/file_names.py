"""Names of the files in model folders, run folders and checkpoints."""

CONFIG = "config.json"  # every setting: `config.Config`
WEIGHTS = "model.safetensors"
MODEL_MANIFEST = "model.manifest.json"  # of a finished model: images seen, size and sha256 of its files
TOKEN_CONFIG = "tokens.json"  # of a model that writes pictures token by token, in place of config.json
TOKEN_WEIGHTS = "tokens.safetensors"  # its weights and codebook
TOKENIZER = "tokenizer.json"  # the learned vocabulary, if the model has one
COMPONENTS = "components.json"  # parts that are Python objects, only where there are such parts
CARD = "README.md"  # the model card
EVALUATION = "evaluation.json"  # noise errors of a finished model, from the last validation of its training
RECORD = "tintype.json"  # of an export: its form, version and license
SAMPLE_CAPTIONS = "samples/captions.txt"  # captions of the sample pictures of a run; of a shipped model, to try
DATA = "data.json"  # pictures and captions of a run
LOG = "log.jsonl"  # metrics of a run, one JSON object a line
CHECKPOINTS = "checkpoints"  # folder of the checkpoints of a run
LATEST = "latest"  # holds the path of the newest checkpoint of a run
STATE = "state.json"  # state of training in a checkpoint
CACHE_FOLDER = "pack"  # folder of the dataset cache of a run
COPY_INDEX = "copies.safetensors"  # thumbnails of the training pictures, for `avoid_copies`
SAMPLES = "samples"  # folder of the sample pictures of a run and their captions
PRIVATE = (
    DATA,
    CACHE_FOLDER,
    SAMPLES,
    COPY_INDEX,
    CARD,
)  # of a run: they have captions or pictures of the data in them
