/** What the shards vouch for: their ready records, and which of them are believed. */

import { decode, DecodeError } from "./msgpack.js";

/**
 * @typedef {object} Record
 * @property {string} generation
 * @property {number} beatUs
 * @property {number} knownUs all that had arrived before is in the values
 * @property {boolean} complete what is missing is empty
 * @property {Map<string, number>} views
 * @property {number} run
 * @property {number} n
 */

export class Ready {
  shards = 1;
  /** @type {Map<string, Record>} */
  records = new Map();
  generation = null;
  readAtUs = -Infinity;
  #seen = new Map();
  #floor = new Map();
  #lost = false;

  /** The server that answers next may have lost its last writes. */
  connectionLost() {
    this.#lost = true;
    this.records = new Map();
    this.readAtUs = -Infinity;
  }

  get isForgotten() {
    return this.readAtUs === -Infinity;
  }

  isOld(nowUs) {
    return Math.abs(nowUs - this.readAtUs) >= 1_000_000;
  }

  /**
   * Take what Redis says.
   * @param {Buffer | null} generation
   * @param {Buffer[]} flat the hash `ready:<env>`: field, value, field, value, ...
   */
  learn(generation, flat, nowUs) {
    this.generation = generation === null ? "" : generation.toString();
    this.readAtUs = nowUs;
    this.records = new Map();
    this.shards = 1;
    const lost = this.#lost;
    this.#lost = false;
    for (let i = 0; i < flat.length; i += 2) {
      const field = flat[i].toString();
      if (field === "shards") this.shards = /^[1-9][0-9]*$/.test(flat[i + 1]) ? Number(flat[i + 1]) : 1;
      else {
        const record = parse(flat[i + 1]);
        if (record?.generation === this.generation && this.#isBelieved(field, record, lost)) this.records.set(field, record);
      }
    }
  }

  /** A server that went back is not believed before it has gone on. */
  #isBelieved(field, record, lost) {
    if (!/^[0-9]+$/.test(field)) return true;
    const seen = sameStore(this.#seen.get(field), record);
    if (seen && (lost || isBefore(record, seen))) this.#floor.set(field, isBefore(record, seen) ? seen : record);
    const floor = sameStore(this.#floor.get(field), record);
    if (floor && !isBefore(floor, record)) return false;
    this.#floor.delete(field);
    this.#seen.set(field, record);
    return true;
  }
}

function sameStore(other, record) {
  return other?.generation === record.generation ? other : undefined;
}

function isBefore(one, other) {
  return (one.run - other.run || one.n - other.n || one.beatUs - other.beatUs) < 0;
}

/** @returns {Record | undefined} undefined if it cannot be read: as good as none */
function parse(bytes) {
  let found;
  try {
    found = decode(bytes);
  } catch (error) {
    if (error instanceof DecodeError) return undefined;
    throw error;
  }
  if (!(found instanceof Map) || !found.has("field") || !found.has("generation") || !found.has("beat_us")) return undefined;
  const beatUs = found.get("beat_us");
  return {
    generation: found.get("generation"),
    beatUs,
    knownUs: Math.min(beatUs, found.get("oldest_unread_us") ?? beatUs),
    complete: (found.get("caught_up") ?? true) && !(found.get("evicts") ?? false),
    views: found.get("views") ?? new Map(),
    run: found.get("run") ?? 0,
    n: found.get("n") ?? 0,
  };
}
