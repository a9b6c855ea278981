/** What to fetch for a service and where each value goes, from what `apply` has published. */

import { crc32, entityKey, InputError } from "./key.js";

/** A name that is not published. */
export class UnknownNameError extends Error {}

const isWhole = (value) => typeof value === "bigint" || Number.isInteger(value);
/** Type of a feature -> whether a value is of it; times and dates are whole numbers. JavaScript does not tell 1.0 from 1. */
const FITS = {
  float: (value) => typeof value === "number" || typeof value === "bigint",
  bool: (value) => typeof value === "boolean",
  str: (value) => typeof value === "string",
};

/** @typedef {{position: number, item: number, empty: unknown, fits: (value: unknown) => boolean}} Slot item: among those of a row, -1: its layout has it not */

/** What is read of one view under one key. */
class ViewRead {
  /** @type {Map<number, Slot[]>} layout id -> where the items of its rows go */
  slotsOf = new Map();

  constructor(layout) {
    this.layout = layout;
    this.id = `${layout.view}@${layout.version}`;
    this.isStream = layout.online === "stream";
    this.slots = [];
    this.slotsOf.set(layout.layout_id, this.slots);
  }

  place(feature, position) {
    const item = this.layout.features.findIndex(({ name }) => name === feature);
    if (item < 0) throw new UnknownNameError(`view ${this.id} has no feature ${feature}`);
    const { empty, dtype, is_list } = this.layout.features[item];
    const fits = FITS[dtype] ?? isWhole;
    this.slots.push({ position, item, empty, fits: is_list ? (value) => Array.isArray(value) && value.every(fits) : fits });
    return this.layout.features[item];
  }

  /** Prepare for rows of another layout; `undefined`: of one that nobody knows. */
  learn(layoutId, layout) {
    const names = layout === undefined ? [] : layout.features.map(({ name }) => name);
    const mine = this.layout.features;
    this.slotsOf.set(layoutId, this.slots.map((slot) => ({ ...slot, item: names.indexOf(mine[slot.item].name) })));
  }
}

/** Everything that reads of one version of a service share. */
export class Plan {
  /** @type {{columns: string[], kinds: string[], name: string}[]} */
  entities = [];
  /** @type {{entity: number, prefix: string, views: ViewRead[]}[]} one HMGET each */
  fetches = [];
  /** @type {{position: number, parts: number[], numeric: boolean, empty: number | null}[]} */
  ratios = [];
  /** Positions of what functions compute. @type {number[]} */
  computed = [];
  /** Columns that a row must have beside its join keys. @type {string[]} */
  required = [];
  #reads = new Map();
  #positions = new Map();

  /**
   * @param {string} env
   * @param {object} service its JSON
   * @param {Map<string, object>} layouts `view@version` -> layout in use
   */
  constructor(env, service, layouts) {
    this.env = env;
    this.service = service;
    this.id = `${service.name}@${service.version}`;
    this.names = service.features.map(({ name }) => name);
    this.width = this.names.length;
    const defaults = service.defaults ?? {};
    this.defaults = service.features.map((item) => defaults[item.name] ?? defaults[readName(item)] ?? null);
    service.features.forEach((item, position) => {
      if (item.type === "stored" || item.type === "keyed") this.#place(item, position, layouts);
      else if (item.type === "on_demand") this.#compute(item, position);
      else if (item.type !== "ratio") throw new UnknownNameError(`the type ${item.type} is not known`);
    });
    service.features.forEach((item, position) => {
      if (item.type !== "ratio") return;
      const parts = [item.numerator, item.denominator].map((part) => this.#find(part, layouts));
      this.ratios.push({ position, parts: parts.map((part) => part.position), numeric: parts.every(isNumeric), empty: item.empty ?? null });
    });
    for (const { source } of (service.functions ?? []).flatMap(({ inputs }) => inputs)) this.#take(source, layouts);
  }

  /** The entity keys of a row, in the order of `entities`. @returns {(string | null)[]} */
  keys(row) {
    const missing = this.required.find((column) => !Object.hasOwn(row, column));
    if (missing !== undefined) throw new InputError(`the column \`${missing}\` is missing`);
    return this.entities.map(({ columns, kinds }) => entityKey(row, columns, kinds));
  }

  /** One HMGET for each entity that has a key. @returns {string[][]} */
  commands(keys) {
    return this.fetches
      .filter(({ entity }) => keys[entity] !== null)
      .map(({ entity, prefix, views }) => ["HMGET", `${prefix}${keys[entity]}}`, ...views.map(({ id }) => id)]);
  }

  #compute({ name, function: number, output }, position) {
    if (this.service.functions?.[number]?.outputs[output] === undefined) throw new UnknownNameError(`${name} is of a function that ${this.id} has not`);
    this.computed.push(position);
  }

  /** An input of a function: what a request must have for it. */
  #take(source, layouts) {
    if (source.type === "request" && (source.default ?? null) === null) this.required.push(source.column);
    else if (source.type === "ratio") [source.numerator, source.denominator].forEach((part) => this.#find(part, layouts));
    else if (source.type === "stored" || source.type === "keyed") this.#find(source, layouts);
  }

  /** Where a part of a ratio stands: behind all others if it is not served itself. */
  #find(item, layouts) {
    return this.#positions.get(readName(item)) ?? this.#place(item, this.width++, layouts);
  }

  #place(item, position, layouts) {
    const id = `${item.view}@${item.version}`;
    const layout = layouts.get(id);
    if (layout === undefined) throw new UnknownNameError(`view ${id} is not served online`);
    const found = { position, feature: this.#read(item, layout).place(item.feature, position) };
    if (!this.#positions.has(readName(item))) this.#positions.set(readName(item), found);
    return found;
  }

  #read(item, layout) {
    const columns = layout.join_keys.map((key) => item.columns?.[key] ?? key);
    const name = JSON.stringify([item.prefix ?? "", item.view, item.version]);
    if (!this.#reads.has(name)) {
      const read = new ViewRead(layout);
      this.#reads.set(name, read);
      const entity = this.#entity(layout, columns);
      const prefix = `features${layout.personal ? "-pii" : ""}:${this.env}:{${layout.entity}:`;
      const fetch = this.fetches.find((each) => each.entity === entity && each.prefix === prefix);
      if (fetch === undefined) this.fetches.push({ entity, prefix, views: [read] });
      else fetch.views.push(read);
    }
    return this.#reads.get(name);
  }

  #entity(layout, columns) {
    const same = (each) => each.name === layout.entity && String(each.columns) === String(columns);
    const at = this.entities.findIndex(same);
    if (at >= 0) return at;
    const kinds = layout.key_kinds?.length ? layout.key_kinds : columns.map(() => "str");
    return this.entities.push({ name: layout.entity, columns, kinds }) - 1;
  }
}

/** Under which name a default may stand that names the view's version, too. */
function readName({ prefix = "", view, version, feature }) {
  return `${prefix}${view}@${version}:${feature}`;
}

function isNumeric({ feature }) {
  return !feature.is_list && ["int", "float", "bool"].includes(feature.dtype);
}

/** Whether an entity is in a share (per cent) of a service. */
export function isInShare(service, key, share) {
  const parts = share * 100;
  const rounded = parts % 1 === 0.5 ? 2 * Math.round(parts / 2) : Math.round(parts); // a half to the even number
  return crc32(`${service}:${key}`) % 10_000 < rounded;
}
