/** MessagePack, as far as packed values and ready records need it: decoding only. */

/** The extension type 1: a value that cannot be expressed, such as a sum beyond 64 bits. */
export const ERROR = Symbol("a value that cannot be expressed");

/** Bytes that are no MessagePack. */
export class DecodeError extends Error {}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * The one value in some bytes. Integers beyond 2^53 are BigInts, maps are Maps.
 * @param {Uint8Array} bytes
 * @returns {unknown}
 * @throws {DecodeError}
 */
export function decode(bytes) {
  const cursor = { view: new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), at: 0 };
  try {
    const value = next(cursor);
    if (cursor.at === bytes.byteLength) return value;
  } catch (error) {
    if (!(error instanceof RangeError || error instanceof TypeError || error instanceof DecodeError)) throw error;
    throw new DecodeError(`no MessagePack: ${error.message}`);
  }
  throw new DecodeError("no MessagePack: there is more behind the value");
}

function next(cursor) {
  const head = cursor.view.getUint8(cursor.at++);
  if (head < 0x80) return head;
  if (head < 0x90) return map(cursor, head & 0x0f);
  if (head < 0xa0) return array(cursor, head & 0x0f);
  if (head < 0xc0) return text(cursor, head & 0x1f);
  if (head >= 0xe0) return head - 0x100;
  switch (head) {
    case 0xc0: return null;
    case 0xc2: return false;
    case 0xc3: return true;
    case 0xc4: return take(cursor, unsigned(cursor, 1));
    case 0xc5: return take(cursor, unsigned(cursor, 2));
    case 0xc6: return take(cursor, unsigned(cursor, 4));
    case 0xc7: return extension(cursor, unsigned(cursor, 1));
    case 0xc8: return extension(cursor, unsigned(cursor, 2));
    case 0xc9: return extension(cursor, unsigned(cursor, 4));
    case 0xca: return cursor.view.getFloat32(skip(cursor, 4));
    case 0xcb: return cursor.view.getFloat64(skip(cursor, 8));
    case 0xcc: return unsigned(cursor, 1);
    case 0xcd: return unsigned(cursor, 2);
    case 0xce: return unsigned(cursor, 4);
    case 0xcf: return plain(cursor.view.getBigUint64(skip(cursor, 8)));
    case 0xd0: return cursor.view.getInt8(skip(cursor, 1));
    case 0xd1: return cursor.view.getInt16(skip(cursor, 2));
    case 0xd2: return cursor.view.getInt32(skip(cursor, 4));
    case 0xd3: return plain(cursor.view.getBigInt64(skip(cursor, 8)));
    case 0xd9: return text(cursor, unsigned(cursor, 1));
    case 0xda: return text(cursor, unsigned(cursor, 2));
    case 0xdb: return text(cursor, unsigned(cursor, 4));
    case 0xdc: return array(cursor, unsigned(cursor, 2));
    case 0xdd: return array(cursor, unsigned(cursor, 4));
    case 0xde: return map(cursor, unsigned(cursor, 2));
    case 0xdf: return map(cursor, unsigned(cursor, 4));
    case 0xd4: case 0xd5: case 0xd6: case 0xd7: case 0xd8: return extension(cursor, 1 << (head - 0xd4));
    default: throw new DecodeError(`the byte ${head} begins nothing`);
  }
}

/** Where the next bytes begin; the cursor stands behind them then. */
function skip(cursor, size) {
  cursor.at += size;
  return cursor.at - size;
}

function unsigned(cursor, size) {
  const at = skip(cursor, size);
  if (size === 1) return cursor.view.getUint8(at);
  return size === 2 ? cursor.view.getUint16(at) : cursor.view.getUint32(at);
}

function plain(big) {
  const number = Number(big);
  return Number.isSafeInteger(number) ? number : big;
}

function take(cursor, size) {
  const { buffer, byteOffset } = cursor.view;
  if (cursor.at + size > cursor.view.byteLength) throw new DecodeError("it ends too early");
  return new Uint8Array(buffer, byteOffset + skip(cursor, size), size);
}

function text(cursor, size) {
  return utf8.decode(take(cursor, size));
}

function array(cursor, size) {
  const items = [];
  for (let i = 0; i < size; i++) items.push(next(cursor));
  return items;
}

function map(cursor, size) {
  const found = new Map();
  for (let i = 0; i < size; i++) found.set(next(cursor), next(cursor));
  return found;
}

function extension(cursor, size) {
  const type = cursor.view.getInt8(skip(cursor, 1));
  take(cursor, size);
  if (type !== 1) throw new DecodeError(`extension type ${type} is not known`);
  return ERROR;
}
