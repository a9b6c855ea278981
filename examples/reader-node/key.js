/** The text of an entity, and the numbers that follow from it. */

/** A request that cannot be read. */
export class InputError extends Error {}

/** Bytes of a key. */
const LONGEST = 4096;

const CANONICAL = {
  int: (text) => /^(0|-?[1-9][0-9]*)$/.test(text),
  str: (text) => !/\p{Surrogate}/u.test(text),
  bool: (text) => text === "true" || text === "false",
  date: (text) => /^\d{4}-\d\d-\d\d$/.test(text) && text >= "0001" && isDay(text),
  bytes: (text) => /^([0-9a-f]{2})*$/.test(text),
};

/**
 * The key of a row's entity; null if one of its join keys is null.
 * @param {Record<string, unknown>} row
 * @param {string[]} columns of the row, in the order of the entity's join keys
 * @param {string[]} kinds of the join keys
 * @returns {string | null}
 */
export function entityKey(row, columns, kinds) {
  const texts = columns.map((column, i) => {
    if (!Object.hasOwn(row, column)) throw new InputError(`the column \`${column}\` is missing`);
    return keyText(row[column], kinds[i], column);
  });
  if (texts.includes(null)) return null;
  const key = texts.map((text) => text.replace(/[%|{}]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`)).join("|");
  const bytes = Buffer.byteLength(key);
  if (bytes > LONGEST) throw new InputError(`\`${columns.join(", ")}\` must be at most ${LONGEST} bytes as text, got ${bytes}`);
  return key;
}

/** @returns {string | null} */
function keyText(value, kind, column) {
  if (value === null || value === undefined || Number.isNaN(value)) return null;
  let text = value;
  if (kind === "bytes") {
    if (value instanceof Uint8Array) text = Buffer.from(value).toString("hex");
  } else if (Number.isSafeInteger(value) || typeof value === "bigint" || typeof value === "boolean") text = String(value);
  if (typeof text !== "string" || !CANONICAL[kind](text)) {
    throw new InputError(`\`${column}\` must be a key of the kind ${kind} or its text, got ${String(value)}`);
  }
  return text;
}

function isDay(text) {
  const day = new Date(`${text}T00:00:00Z`);
  return !Number.isNaN(day.getTime()) && day.toISOString().startsWith(text);
}

const TABLE = Uint32Array.from({ length: 256 }, (_, i) => {
  for (let bit = 0; bit < 8; bit++) i = i & 1 ? (i >>> 1) ^ 0xedb88320 : i >>> 1;
  return i;
});

/** CRC-32 (zlib) of a text as UTF-8. @param {string} text */
export function crc32(text) {
  let sum = ~0;
  for (const byte of Buffer.from(text)) sum = (sum >>> 8) ^ TABLE[(sum ^ byte) & 0xff];
  return ~sum >>> 0;
}

/** The shard that keeps an entity. */
export function shardOf(entity, key, shards) {
  return crc32(`${entity}:${key}`) % shards;
}
