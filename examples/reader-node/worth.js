/** What a row is worth at a time, and for which time it answers: "What a value is worth" of docs/wire-format.md. */

import { decode, DecodeError, Own } from "./msgpack.js";

/** @typedef {"PRESENT" | "EMPTY" | "UNKNOWN" | "STALE" | "AHEAD" | "ERROR"} Status */
/** @typedef {{atUs: number, exact: boolean}} Moment the time asked or, if none was, the reader's own (not `exact`) */
/** @typedef {{layoutId: number, fromUs: number, ageUs: number | null, untilS: number, items: unknown[]}} Row */

const HOUR_US = 3_600_000_000;
/** The years 1 to 9999. What has never changed has held since the first of them. */
const [EARLIEST_US, LATEST_US] = [-62_135_596_800_000_000, 253_402_300_799_999_999];

/**
 * @param {Uint8Array} bytes
 * @returns {Row | undefined} undefined if the bytes are damaged
 */
export function parseRow(bytes) {
  try {
    const row = decode(bytes);
    if (!Array.isArray(row) || row.length < 6) return undefined;
    const [layoutId, run, n, from, ageUs, untilS, ...items] = row;
    const fromUs = typeof from === "bigint" ? Number(from) : from; // to 8 us in the years before 1684
    if (!Number.isInteger(fromUs) || fromUs < EARLIEST_US || fromUs > LATEST_US) return undefined;
    return [layoutId, run, n, ageUs ?? 0, untilS].every(Number.isSafeInteger) ? { layoutId, fromUs, ageUs, untilS, items } : undefined;
  } catch (error) {
    if (error instanceof DecodeError) return undefined;
    throw error;
  }
}

/**
 * A row that is there. Of EMPTY and ERROR its items decide.
 * @returns {[Status, number]} what it is worth, and the time at which its values are taken
 */
export function worthOfRow(view, row, moment, record) {
  const { atUs } = moment;
  if (atUs < row.fromUs) return [moment.exact ? "AHEAD" : "PRESENT", row.fromUs];
  if (row.untilS > 0 && secondsSince(row.fromUs, atUs) >= row.untilS) return ["STALE", atUs];
  const slaUs = view.layout.sla_us;
  if (!view.isStream && atUs - row.fromUs > slaUs + HOUR_US) return ["UNKNOWN", atUs];
  if (view.isStream && record === undefined) return ["STALE", atUs];
  const knownUs = view.isStream ? record.knownUs : row.fromUs;
  return [atUs - knownUs > slaUs ? "STALE" : "PRESENT", atUs];
}

/**
 * What a row was before its newest event, if that is the time asked and the row has kept it.
 * @returns {Row | undefined} without items if they are damaged
 */
export function ownRow(row, atUs) {
  const kept = row.items.at(-1);
  if (row.ageUs === null || atUs !== row.fromUs - row.ageUs || !(kept instanceof Own)) return undefined;
  try {
    const items = decode(kept.bytes);
    return { ...row, items: Array.isArray(items) ? items : [] };
  } catch (error) {
    if (error instanceof DecodeError) return { ...row, items: [] };
    throw error;
  }
}

/** Of such a row. @returns {[Status, number]} as `worthOfRow` */
export function worthOfOwn(view, moment, record) {
  const isStale = record === undefined || moment.atUs - record.knownUs > view.layout.sla_us;
  return [isStale ? "STALE" : "PRESENT", moment.atUs];
}

/** A row that is missing, of an entity that has a key. @returns {Status} */
export function worthOfNothing(view, moment, record) {
  const { atUs } = moment;
  const slaUs = view.layout.sla_us;
  if (!record?.complete || !record.views.has(view.id)) return "UNKNOWN";
  if (atUs - record.beatUs > slaUs + (view.isStream ? 0 : HOUR_US)) return "UNKNOWN";
  if (atUs < record.beatUs - (view.isStream ? HOUR_US : 0)) return moment.exact ? "AHEAD" : "EMPTY";
  return atUs - record.knownUs > slaUs ? "STALE" : "EMPTY";
}

/** An item at a time: what has begun last of its steps, or itself. */
export function itemAt(item, fromUs, atUs) {
  if (!Array.isArray(item)) return item;
  const seconds = secondsSince(fromUs, atUs);
  let value = item[0];
  for (let i = 1; i < item.length && seconds >= item[i]; i += 2) value = item[i + 1];
  return value;
}

/** Whole seconds from the second of one time to the second of another. */
export function secondsSince(fromUs, atUs) {
  return second(atUs) - second(fromUs);
}

function second(us) {
  return (us - (((us % 1_000_000) + 1_000_000) % 1_000_000)) / 1_000_000; // the division is exact
}
