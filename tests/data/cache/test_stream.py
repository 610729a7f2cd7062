import io
import tarfile
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from tintype.data.cache.open_or_build import build_cache, build_index
from tintype.data.cache.stream import ReadAhead, Stream
from tintype.data.images.decode import preprocess_for
from tintype.data.order import Order, block_numbers, shard_positions
from tintype.data.sources.find import find_pairs
from tintype.data.thread_pool import finished


class Words:
    """A text encoder: each word becomes its length."""

    identity = "words"

    def text_embeddings(self, captions):
        return [torch.tensor([[float(len(word))] for word in caption.split()]).half() for caption in captions]


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Three tar files of 4, 5 and 6 pictures."""
    folder = tmp_path / "shards"
    folder.mkdir()
    for number in range(3):
        with tarfile.open(folder / f"{number}.tar", "w") as file:
            for index in range(4 + number):
                picture = io.BytesIO()
                Image.new("RGB", (20, 20), (50 * number, 9 * index, 7)).save(picture, "PNG")
                for name, content in ((f"{index}.png", picture.getvalue()), (f"{index}.txt", b"a picture")):
                    info = tarfile.TarInfo(name)
                    info.size = len(content)
                    file.addfile(info, io.BytesIO(content))
    return folder


def streamed(data: Path, cache: Path) -> Stream:
    pairs, problems = find_pairs(data)
    progress = build_index(pairs, preprocess_for(16), cache, Words(), problems)
    while True:
        try:
            next(progress)
        except StopIteration as end:
            return Stream(end.value.folder, pairs, preprocess_for(16), Words(), end.value.problems)


def test_a_stream_gives_what_a_pack_gives(shards: Path, tmp_path: Path) -> None:
    stream = streamed(shards, tmp_path / "cache")
    packed = finished(build_cache(find_pairs(shards)[0], preprocess_for(16), tmp_path / "cache", Words()))
    assert stream.fingerprint == packed.fingerprint
    assert stream.keys == packed.keys
    everything = torch.arange(15)
    assert torch.equal(stream.pictures(everything), packed.pictures(everything))
    choice = torch.zeros(15, dtype=torch.int64)
    for one, other in zip(
        stream.text_embeddings(everything, choice), packed.text_embeddings(everything, choice), strict=True
    ):
        assert torch.equal(one, other)
    assert [part.tolist() for part in stream.split(0.3)] == [part.tolist() for part in packed.split(0.3)]
    assert not list((tmp_path / "cache").glob("catalog-*/pictures*"))


def test_a_picture_that_is_lost_on_the_way_is_replaced_and_counted(draw, data: Path, tmp_path: Path) -> None:
    for number in range(5):
        draw(f"{number}.png", color=(40 * number, 0, 0))
    stream = streamed(data, tmp_path / "cache")
    (data / "1.png").unlink()
    (data / "2.png").write_bytes(b"rubbish")
    assert stream.pictures(torch.arange(5))[:, 0, 0, 0].tolist() == [0, 120, 120, 120, 160]
    assert stream.num_replaced == 2


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_no_sample_is_lost_or_doubled(shards: Path, tmp_path: Path, world: int, workers: int) -> None:
    stream = streamed(shards, tmp_path / "cache")
    order = stream.order(7, torch.arange(15))
    size, epochs = 6, 4
    batches: list[list[int]] = []
    for rank in range(world):
        read = ReadAhead(lambda positions: stream.pictures(order.at(positions)), workers)
        for number, start in enumerate(range(0, 15 * epochs, size)):
            batch = read(shard_positions(torch.arange(start, start + size), rank, world), size)
            indices = [(int(red) // 50 * 10 + int(green) // 9) for red, green in batch[:, :2, 8, 8].tolist()]
            if rank == 0:
                batches.append([])
            batches[number] += indices
    samples = [sample for batch in batches for sample in batch]
    assert {sample: samples.count(sample) for sample in set(samples)} == dict.fromkeys(
        [10 * shard + index for shard in range(3) for index in range(4 + shard)], epochs
    )
    pictures = stream.pictures(order.at(torch.arange(15 * epochs)))
    expected = [(int(red) // 50 * 10 + int(green) // 9) for red, green in pictures[:, :2, 8, 8].tolist()]
    assert [sorted(batch) for batch in batches] == [
        sorted(expected[start : start + size]) for start in range(0, 15 * epochs, size)
    ]


def test_reading_ahead_gives_the_same_and_reads_each_batch_once() -> None:
    reads: list[int] = []

    def read(positions: Tensor) -> int:
        time.sleep(0.001)
        reads.append(int(positions[0]))
        return int(positions.sum())

    ahead = ReadAhead(read, 2)
    assert [ahead(torch.arange(start, start + 4)) for start in range(0, 40, 4)] == [
        sum(range(start, start + 4)) for start in range(0, 40, 4)
    ]
    assert sorted(reads)[:10] == list(range(0, 40, 4))
    assert len(reads) == len(set(reads)) <= 12
    assert ahead(torch.tensor([1000])) == 1000  # somewhere else, as after going on from a checkpoint


def test_an_error_while_reading_ahead_is_raised_when_its_batch_is_asked_for() -> None:
    def read(positions: Tensor) -> int:
        if int(positions[0]) == 2:
            raise OSError("gone")
        return int(positions[0])

    ahead = ReadAhead(read, 2)
    assert [ahead(torch.tensor([number])) for number in (0, 1)] == [0, 1]
    with pytest.raises(OSError, match="gone"):
        ahead(torch.tensor([2]))


def test_blocks_are_read_a_few_at_a_time_in_an_order_of_their_own() -> None:
    blocks = block_numbers([f"shard {number // 10}" for number in range(200)])
    order = Order(3, 200, None, blocks, window=30)
    epochs = [order.at(torch.arange(200 * epoch, 200 * (epoch + 1))) for epoch in range(3)]
    for samples in epochs:
        assert samples.sort().values.tolist() == list(range(200))
        for start in range(0, 180, 30):
            assert len(set(blocks[samples[start : start + 30]].tolist())) <= 4
    assert len({tuple(samples.tolist()) for samples in epochs}) == 3
    first = blocks[epochs[0][:30]]
    assert len(set(first.tolist())) >= 3  # shuffled among blocks, not one block after another
    assert torch.diff(first).abs().gt(0).sum() > 10
    again = Order(3, 200, None, blocks, window=30)
    assert again.at(torch.tensor([431])).item() == epochs[2][31].item()


@pytest.mark.slow
def test_weights_are_met_in_every_epoch_and_exactly_over_many() -> None:
    weights = torch.tensor([1.0] * 10 + [2.5] * 4 + [0.2] * 5, dtype=torch.float64)
    order = Order(1, 19, weights)
    assert order.epoch_length == 21
    counts = torch.zeros(19)
    for epoch in range(400):
        epoch_counts = torch.bincount(order.at(torch.arange(21 * epoch, 21 * (epoch + 1))), minlength=19)
        assert bool((epoch_counts[:10] == 1).all())
        assert set(epoch_counts[10:14].tolist()) <= {2, 3}
        assert set(epoch_counts[14:].tolist()) <= {0, 1}
        counts += epoch_counts
    assert (counts / 400 - weights).abs().max() < 0.08
    positions = torch.tensor([5000, 3, 77])
    assert Order(1, 19, weights).at(positions).tolist() == [int(order.at(positions[i : i + 1])) for i in range(3)]


@pytest.mark.parametrize(("rank", "world"), [(2, 2), (-1, 2), (0, 0)])
def test_ranks_that_cannot_be(rank: int, world: int) -> None:
    with pytest.raises(ValueError):
        shard_positions(torch.arange(4), rank, world)
