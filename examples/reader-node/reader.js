/** Reads feature services: one round trip for any number of rows, entities and views, values with an honest status. */

import { shardOf } from "./key.js";
import { ERROR } from "./msgpack.js";
import { isInShare, Plan, UnknownNameError } from "./plan.js";
import { Ready } from "./ready.js";
import { Connection, StoreError } from "./resp.js";
import { valuesAt, ownRow, parseRow, worthOfNothing, worthOfOwn, worthOfRow } from "./worth.js";

/** A value is STALE or AHEAD, and its service says that this fails a read. */
export class ValueRefused extends Error {}

/**
 * @typedef {object} Vector
 * @property {string} service `name@version`, as it was served
 * @property {string[]} names in declared order
 * @property {unknown[]} values integers beyond 2^53 as BigInt, timestamps as µs since the epoch, dates as days
 * @property {import("./worth.js").Status[]} statuses
 */

export class FeatureReader {
  #connect;
  #connection;
  #opening;
  #env;
  #nowUs;
  #ready = new Ready();
  /** @type {Map<string, {plan: Plan, beside?: Plan, rollout?: object, said: string}>} */
  #routes = new Map();

  /**
   * @param {string | (() => Promise<Connection>)} redis a URL, or what opens a connection
   * @param {{env?: string, nowUs?: () => number}} options the environment, and what time it is
   */
  constructor(redis, { env = "dev", nowUs = () => Date.now() * 1000 } = {}) {
    this.#connect = typeof redis === "string" ? () => Connection.open(redis) : redis;
    this.#env = env;
    this.#nowUs = nowUs;
  }

  /**
   * The features of some rows, in their order.
   * @param {string} service `name`, as it is rolled out, or `name@version`
   * @param {Record<string, unknown>[]} rows the join keys of all entities of the service
   * @param {{asOfUs?: number}} options the time asked; without it each view answers for now
   * @returns {Promise<Vector[]>}
   */
  async read(service, rows, { asOfUs } = {}) {
    for (let doubted = false; ; ) {
      const route = this.#routes.get(service) ?? (await this.#load(service));
      const asked = rows.map((row) => chosen(route, row));
      const commands = asked.flatMap(({ plan, keys }) => plan.commands(keys));
      const nowUs = this.#nowUs();
      const refresh = doubted || this.#ready.isOld(nowUs);
      const vouching = refresh ? this.#vouching(service) : [];
      const [generation, ...replies] = (await this.#exchange([...vouching, ...commands, ["GET", `generation:${this.#env}`]])).reverse();
      replies.reverse();
      if (refresh) {
        const [before, records, said] = replies.splice(0, vouching.length);
        this.#ready.learn(before, records, nowUs);
        this.#forgetOldRoutes();
        if (said?.[0] && String(said) !== route.said) {
          this.#routes.delete(service);
          continue;
        }
      }
      // The store was emptied, or the connection lost, meanwhile: all of it once more.
      doubted = this.#ready.isForgotten || String(generation ?? "") !== this.#ready.generation;
      if (doubted) continue;
      const moment = { atUs: asOfUs ?? nowUs, exact: asOfUs !== undefined };
      const vectors = [];
      for (const { plan, keys } of asked) vectors.push(await this.#vector(plan, keys, replies, moment));
      return vectors;
    }
  }

  close() {
    this.#connection?.close();
  }

  /** What is asked once a second, before the rows: what is missing then had been missing at the beat. */
  #vouching(service) {
    const followed = service.includes("@") ? [] : [["HMGET", `services:${this.#env}`, service, `${service}#rollout`]];
    return [["GET", `generation:${this.#env}`], ["HGETALL", `ready:${this.#env}`], ...followed];
  }

  async #exchange(commands) {
    for (let fresh = false; ; ) {
      if (!this.#connection || this.#connection.closed) {
        await this.#open();
        fresh = true;
      }
      const connection = this.#connection;
      try {
        return await connection.exchange(commands);
      } catch (error) {
        // An idle connection may have been closed long ago: once more, on a new one.
        if (fresh || !connection.closed || !(error instanceof StoreError)) throw error;
      }
    }
  }

  /** A new connection, one for all reads that need it at the same time. */
  #open() {
    const open = async () => {
      if (this.#connection) this.#ready.connectionLost();
      this.#connection = await this.#connect();
    };
    this.#opening ??= open().finally(() => (this.#opening = undefined));
    return this.#opening;
  }

  /** A feature was added to a view: the next read takes the new layout. */
  #forgetOldRoutes() {
    for (const [service, { plan, beside }] of this.#routes) {
      const views = [plan, beside].flatMap((each) => each?.fetches ?? []).flatMap((fetch) => fetch.views);
      const isOld = ({ id, layout }) => [...this.#ready.records.values()].some(({ views }) => (views.get(id) ?? layout.layout_id) !== layout.layout_id);
      if (views.some(isOld)) this.#routes.delete(service);
    }
  }

  async #load(name) {
    const [services, published] = (await this.#exchange([["HGETALL", `services:${this.#env}`], ["HGETALL", `layouts:${this.#env}`]])).map(asMap);
    const layouts = new Map([...published].filter(([field]) => !field.includes("#")).map(([field, text]) => [field, JSON.parse(text)]));
    const planOf = (id) => {
      if (!services.has(id)) throw new UnknownNameError(`service ${id} is not published`);
      return new Plan(this.#env, JSON.parse(services.get(id)), layouts);
    };
    if (name.includes("@")) return this.#keep(name, { plan: planOf(name), said: "" });
    if (!services.has(name)) throw new UnknownNameError(`service ${name} is not published`);
    const [version, text] = [services.get(name), services.get(`${name}#rollout`)];
    const rollout = text === undefined ? undefined : JSON.parse(text);
    const isSplit = rollout?.mode === "split" && rollout.to !== null && rollout.serve === Number(version);
    const beside = isSplit ? planOf(`${name}@${rollout.to}`) : undefined;
    return this.#keep(name, { plan: planOf(`${name}@${version}`), beside, rollout, said: String([version, text ?? null]) });
  }

  #keep(name, route) {
    this.#routes.set(name, route);
    return route;
  }

  /** @returns {Promise<Vector>} of one row; takes the replies to its commands from the front */
  async #vector(plan, keys, replies, moment) {
    const values = Array(plan.width).fill(null);
    const statuses = Array(plan.width).fill("UNKNOWN");
    for (const { entity, views } of plan.fetches) {
      if (keys[entity] === null) continue;
      const found = replies.shift();
      for (const [i, view] of views.entries()) {
        for (const [position, value, status] of await this.#answers(view, plan.entities[entity].name, keys[entity], found[i], moment)) {
          values[position] = value;
          statuses[position] = status;
        }
      }
    }
    for (const position of plan.computed) statuses[position] = "ERROR"; // no function of Python's is here
    for (const ratio of plan.ratios) [values[ratio.position], statuses[ratio.position]] = divided(ratio, values, statuses);
    plan.names.forEach((name, i) => {
      if (isRefused(plan, name, statuses[i])) values[i] = plan.defaults[i];
    });
    return { service: plan.id, names: plan.names, values: values.slice(0, plan.names.length), statuses: statuses.slice(0, plan.names.length) };
  }

  /** What one view says: position, value and status of each feature. */
  async #answers(view, entity, key, bytes, moment) {
    const record = this.#ready.records.get(view.isStream ? String(shardOf(entity, key, this.#ready.shards)) : view.id);
    if (bytes === null) {
      const status = worthOfNothing(view, moment, record);
      const slots = status === "UNKNOWN" ? view.slots : await this.#slots(view, record.views.get(view.id));
      return slots.map(({ position, item, empty }) => (item < 0 || status === "UNKNOWN" ? [position, null, "UNKNOWN"] : [position, empty ?? null, status]));
    }
    let row = parseRow(bytes);
    const damaged = view.slots.map(({ position }) => [position, null, "ERROR"]);
    if (row === undefined) return damaged;
    const slots = await this.#slots(view, row.layoutId);
    let [status, atUs] = worthOfRow(view, row, moment, record);
    const own = status === "AHEAD" ? ownRow(row, moment.atUs) : undefined;
    if (own !== undefined) [row, [status, atUs]] = [own, worthOfOwn(view, moment, record)];
    const values = status === "UNKNOWN" ? [] : valuesAt(row, atUs);
    if (values === undefined || (status !== "UNKNOWN" && slots.some((slot) => isDamaged(slot, values)))) return damaged;
    return slots.map(({ position, item, empty }) => {
      if (item < 0 || status === "UNKNOWN") return [position, null, "UNKNOWN"];
      const value = values[item];
      if (value === ERROR) return [position, null, "ERROR"];
      if (value === null) return [position, empty ?? null, status === "PRESENT" ? "EMPTY" : status];
      return [position, value, status];
    });
  }

  /** Where the items of a layout go; one that is not known yet is asked for. */
  async #slots(view, layoutId) {
    if (!view.slotsOf.has(layoutId)) {
      const [text] = await this.#exchange([["HGET", `layouts:${this.#env}`, `${view.id}#${layoutId}`]]);
      view.learn(layoutId, text === null ? undefined : JSON.parse(text));
    }
    return view.slotsOf.get(layoutId);
  }
}

/** The version of a service that a row is served, and the row's keys. */
function chosen({ plan, beside, rollout }, row) {
  const keys = plan.keys(row);
  if (beside === undefined || keys[0] === null || !isInShare(plan.service.name, keys[0] ?? "", rollout.share)) return { plan, keys };
  return { plan: beside, keys: beside.keys(row) };
}

/** The quotient of two values, and what it is worth: as little as the lesser of its parts. */
function divided({ parts, numeric, empty }, values, statuses) {
  const [top, bottom] = parts.map((position) => values[position]);
  const worth = ["ERROR", "UNKNOWN", "AHEAD", "STALE"].find((status) => parts.some((position) => statuses[position] === status));
  if (worth === "ERROR" || worth === "UNKNOWN") return [null, worth];
  const isDefined = numeric && top !== null && bottom !== null && Number(bottom) !== 0;
  return [isDefined ? Number(top) / Number(bottom) : empty, worth ?? (isDefined ? "PRESENT" : "EMPTY")];
}

/** Whether the default takes a value's place. */
function isRefused(plan, name, status) {
  if (status === "UNKNOWN") return true;
  if (status !== "STALE" && status !== "AHEAD") return false;
  const policy = plan.service[status === "STALE" ? "on_stale" : "on_ahead"] ?? "serve";
  if (policy === "fail") throw new ValueRefused(`feature ${name} of ${plan.id} is ${status}`);
  return policy === "default";
}

function asMap(flat) {
  const found = new Map();
  for (let i = 0; i < flat.length; i += 2) found.set(String(flat[i]), String(flat[i + 1]));
  return found;
}

/** Whether the values of a row lack that of a feature, or have one of another type. */
function isDamaged({ item, fits }, values) {
  if (item < 0) return false;
  if (item >= values.length) return true;
  const value = values[item];
  return value !== ERROR && value !== null && !fits(value);
}
