/** What a row is worth at a time, and for which time it answers: "What a value is worth" of docs/wire-format.md. */

import { decode, DecodeError } from "./msgpack.js";

/** @typedef {"PRESENT" | "EMPTY" | "UNKNOWN" | "STALE" | "AHEAD" | "ERROR"} Status */
/** @typedef {{atUs: number, exact: boolean}} Moment the time asked or, if none was, the reader's own (not `exact`) */
/** @typedef {{layoutId: number, fromUs: number, ageUs: number | null, untilS: number, changeS: number, changes: Uint8Array | null, own: Uint8Array | null, firsts: unknown[]}} Row */

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
    if (!Array.isArray(row) || row.length < 9) return undefined;
    const [layoutId, run, n, from, ageUs, untilS, changeS, changes, own, ...firsts] = row;
    const fromUs = typeof from === "bigint" ? Number(from) : from; // to 8 us in the years before 1684
    if (!Number.isInteger(fromUs) || fromUs < EARLIEST_US || fromUs > LATEST_US) return undefined;
    if (![layoutId, run, n, ageUs ?? 0, untilS, changeS].every(Number.isSafeInteger)) return undefined;
    if (![changes, own].every((part) => part === null || part instanceof Uint8Array)) return undefined;
    return { layoutId, fromUs, ageUs, untilS, changeS, changes, own, firsts };
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
 * @returns {Row | undefined} without values if they are damaged
 */
export function ownRow(row, atUs) {
  if (row.ageUs === null || row.own === null || atUs !== row.fromUs - row.ageUs) return undefined;
  return { ...row, firsts: parts(row.own) ?? [], changes: null };
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

/**
 * The values of a row's features at a time.
 * @returns {unknown[] | undefined} undefined if what they change to is damaged
 */
export function valuesAt(row, atUs) {
  const seconds = secondsSince(row.fromUs, atUs);
  if (row.changes === null || seconds < row.changeS) return row.firsts;
  const changes = parts(row.changes);
  if (changes === undefined || changes.length % 3 !== 0) return undefined;
  const values = [...row.firsts];
  for (let i = 0, at = 0; i < changes.length; i += 3) {
    const [afterS, feature, value] = changes.slice(i, i + 3);
    at += afterS;
    if (!Number.isSafeInteger(at)) return undefined;
    if (at > seconds) break;
    if (!Number.isSafeInteger(feature) || feature < 0 || feature >= values.length) return undefined;
    values[feature] = value;
  }
  return values;
}

/** An array that is packed within a row; undefined if it is damaged. */
function parts(bytes) {
  try {
    const found = decode(bytes);
    return Array.isArray(found) ? found : undefined;
  } catch (error) {
    if (error instanceof DecodeError) return undefined;
    throw error;
  }
}

/** Whole seconds from the second of one time to the second of another. */
export function secondsSince(fromUs, atUs) {
  return second(atUs) - second(fromUs);
}

function second(us) {
  return (us - (((us % 1_000_000) + 1_000_000) % 1_000_000)) / 1_000_000; // the division is exact
}
