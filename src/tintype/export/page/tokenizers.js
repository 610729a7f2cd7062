// Tokenizers: captions -> token ids, and the signs or words of a caption that a model cannot read.

const WHITESPACE = "\\t-\\r \\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";
const PARTS = new RegExp(`'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^${WHITESPACE}\\p{L}\\p{N}]+|[${WHITESPACE}]+(?![^${WHITESPACE}])|[${WHITESPACE}]+`, "gu");
const FULL = 2048; // tokens of a learned vocabulary that has no room for more signs

// Text without what no receipt can hold: lone surrogates and NUL.
const cleanText = (text) => text.replace(/\p{Surrogate}|\0/gu, "");

// The sign that stands for each byte in a byte-level vocabulary: printable ones for themselves, others from U+0100 on.
const BYTE_SIGNS = (() => {
  const isPrintable = (byte) => (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
  let others = 0;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(isPrintable(byte) ? byte : 256 + others++));
})();
const byteSigns = (text) => Array.from(new TextEncoder().encode(text), (byte) => BYTE_SIGNS[byte]).join("");

// Byte-level BPE, as `learn_tokenizer` makes it (model/nets/tokens.py).
class LearnedTokenizer {
  constructor(json, maxTokens) {
    const { vocab, merges } = json.model;
    Object.assign(this, { vocab, maxTokens });
    this.ranks = new Map(merges.map((pair, rank) => [Array.isArray(pair) ? pair.join(" ") : pair, rank]));
    this.merged = Object.keys(vocab).filter((token) => token.length > 1).join(" ");
    this.isFull = Object.keys(vocab).length >= FULL;
  }

  ids(caption) {
    const text = caption.toLowerCase();
    const parts = text && (text.startsWith(" ") ? text : ` ${text}`).match(PARTS);
    return (parts || []).flatMap((part) => this.merge(byteSigns(part))).map((token) => this.vocab[token]);
  }

  merge(word) {
    const tokens = [...word];
    for (;;) {
      let best = -1;
      let lowest = Infinity;
      for (let i = 0; i + 1 < tokens.length; i++) {
        const rank = this.ranks.get(`${tokens[i]} ${tokens[i + 1]}`) ?? Infinity;
        if (rank < lowest) [best, lowest] = [i, rank];
      }
      if (best < 0) return tokens;
      tokens.splice(best, 2, tokens[best] + tokens[best + 1]);
    }
  }

  // Ids as the model reads them, and whether the caption was cut.
  read(caption) {
    const ids = this.ids(caption);
    return { ids: ids.slice(0, this.maxTokens), isCut: ids.length > this.maxTokens };
  }

  illegible(caption) {
    return [...new Set([...caption].filter((sign) => this.isUnknown(sign)))];
  }

  isUnknown(sign) {
    if (sign.codePointAt(0) < 128 || !/[\p{L}\p{N}\p{S}]/u.test(sign)) return false;
    const content = byteSigns(sign.toLowerCase());
    return !this.merged.includes(content) && !(this.isFull && [...content].every((byte) => this.merged.includes(byte)));
  }
}

const isSpace = (sign) => new RegExp(`^[${WHITESPACE}]$`, "u").test(sign);
const isControl = (sign) => /^[\p{Cc}\p{Cf}\p{Co}]$/u.test(sign) && !/^[\t\n\r]$/.test(sign);
const isPunctuation = (sign) => /^[!-/:-@[-`{-~]$|^\p{P}$/u.test(sign);
const isChinese = (sign) => /^[\u4e00-\u9fff\u3400-\u4dbf\u{20000}-\u{2a6df}\u{2a700}-\u{2b73f}\u{2b740}-\u{2b81f}\u{2b920}-\u{2ceaf}\uf900-\ufaff\u{2f800}-\u{2fa1f}]$/u.test(sign);

// WordPiece without capitals and accents, as BERT's.
class WordPiece {
  constructor(vocabulary, maxTokens) {
    this.vocab = new Map(vocabulary.map((token, id) => [token, id]));
    this.maxTokens = maxTokens;
  }

  // Words of a caption with the places where they begin and end in it, in code points.
  words(caption) {
    const words = [];
    let word = null;
    const end = () => { word = null; };
    const add = (text, place) => {
      if (word === null) words.push((word = { text: "", start: place }));
      word.text += text;
      word.end = place + 1;
    };
    const alone = (text, place) => { end(); add(text, place); end(); };
    [...caption].forEach((sign, place) => {
      if (sign === "\ufffd" || isControl(sign)) return undefined;
      if (isSpace(sign)) return end();
      const text = sign.normalize("NFD").replace(/\p{Mn}/gu, "");
      for (const part of text) {
        for (const lower of part.toLowerCase()) {
          if (isSpace(lower)) end();
          else if (isPunctuation(lower) || isChinese(sign)) alone(lower, place);
          else add(lower, place);
        }
      }
      return undefined;
    });
    return words;
  }

  // Tokens of a word, or null where it is unknown.
  pieces(word) {
    const signs = [...word];
    if (signs.length > 100) return null;
    const ids = [];
    for (let start = 0; start < signs.length;) {
      let end = signs.length;
      let id;
      for (; end > start; end--) {
        id = this.vocab.get((start > 0 ? "##" : "") + signs.slice(start, end).join(""));
        if (id !== undefined) break;
      }
      if (id === undefined) return null;
      ids.push(id);
      start = end;
    }
    return ids;
  }

  // Token ids of a caption; special tokens may be written out in it.
  ids(caption) {
    return caption.split(/(\[(?:PAD|UNK|CLS|SEP|MASK)\])/).flatMap((part, i) => {
      if (i % 2) return [this.vocab.get(part)];
      return this.words(part).flatMap(({ text }) => this.pieces(text) ?? [this.vocab.get("[UNK]")]);
    });
  }

  read(caption) {
    if (caption === "") return { ids: [], isCut: false };
    const ids = this.ids(caption);
    const kept = ids.slice(0, this.maxTokens - 2);
    return { ids: [this.vocab.get("[CLS]"), ...kept, this.vocab.get("[SEP]")], isCut: kept.length < ids.length };
  }

  illegible(caption) {
    const found = caption.split(/(\[(?:PAD|UNK|CLS|SEP|MASK)\])/).flatMap((part, i) => {
      if (i % 2) return part === "[UNK]" ? [part] : [];
      const signs = [...part];
      return this.words(part).filter(({ text }) => this.pieces(text) === null).map(({ start, end }) => signs.slice(start, end).join(""));
    });
    return [...new Set(found)];
  }
}

// The first few illegible signs or words, for a message.
function named(words) {
  const shown = words.slice(0, 5).map((word) => ([...word].length <= 20 ? word : `${[...word].slice(0, 20).join("")}...`));
  return shown.map((word) => `'${word}'`).join(", ") + (words.length > 5 ? ", ..." : "");
}
