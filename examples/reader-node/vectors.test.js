/** The reader over everything that the test vectors say stands in Redis: `node --test`. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { entityKey, InputError, shardOf } from "./key.js";
import { UnknownNameError } from "./plan.js";
import { FeatureReader, ValueRefused } from "./reader.js";
import { shown } from "./shown.js";
import { valuesAt, parseRow, secondsSince } from "./worth.js";
import { ERROR } from "./msgpack.js";

const vectors = (name) => JSON.parse(readFileSync(new URL(`../../tests/vectors/${name}.json`, import.meta.url), "utf8"));
const FAILURES = { unknown: UnknownNameError, invalid: InputError, refused: ValueRefused };

for (const { name, store, reads } of vectors("reads")) {
  for (const [number, read] of reads.entries()) {
    test(`${name}, ${number}`, async () => {
      const connection = new Store(store);
      const reader = new FeatureReader(async () => connection, { env: "prod", nowUs: () => read.now_us });
      const ask = () => reader.read(read.service, [plain(read.keys)], { asOfUs: read.as_of_us ?? undefined });

      if (read.error) return assert.rejects(ask, FAILURES[read.error.split(" ")[0]]);
      const [vector] = await ask();
      assert.deepEqual(JSON.parse(JSON.stringify(vector.values, shown)), read.values);
      assert.deepEqual(vector.statuses, read.statuses);
      if (read.served) assert.equal(vector.service, read.served);
      await ask(); // takes the layouts that the records name
      const before = connection.trips;
      assert.deepEqual((await ask())[0], vector);
      assert.equal(connection.trips - before, 1);
    });
  }
}

test("reads at the same time share a connection, and one that was closed is opened again", async () => {
  const [{ store, reads }] = vectors("reads");
  const opened = [];
  const open = async () => opened[opened.push(new Store(store)) - 1];
  const reader = new FeatureReader(open, { env: "prod", nowUs: () => reads[0].now_us });
  const ask = () => reader.read(reads[0].service, [reads[0].keys, reads[0].keys]);

  const answers = await Promise.all([ask(), ask(), ask()]);
  assert.deepEqual(answers.flat().map(({ statuses }) => statuses), Array(6).fill(reads[0].statuses));
  assert.equal(opened.length, 1);
  opened[0].closed = true;
  // What the records vouch for is doubted until a later one comes.
  assert.deepEqual((await ask())[0].statuses, ["STALE", "STALE"]);
  assert.equal(opened.length, 2);
});

for (const { entity, kinds, values, key, shard_of_8: shard } of vectors("entity_keys")) {
  test(`the key of ${entity} ${JSON.stringify(values)}`, () => {
    const row = plain(Object.fromEntries(Object.entries(values)));
    const made = entityKey(row, Object.keys(row), kinds);
    assert.equal(made, key);
    if (key !== null) assert.equal(shardOf(entity, made, 8), shard);
  });
}

for (const { name, hex, row, at } of vectors("packed_values")) {
  test(name, () => {
    const parsed = parseRow(Buffer.from(hex, "hex"));
    const { layoutId, fromUs, untilS } = parsed;
    assert.deepEqual([layoutId, fromUs, untilS], [row.layout_id, row.from_us, row.until_s]);
    for (const { time_us: timeUs, valid, values } of at) {
      const told = valuesAt(parsed, timeUs).map((value) => (value === ERROR ? { error: true } : value));
      assert.deepEqual(JSON.parse(JSON.stringify(told, shown)), values);
      assert.equal(untilS === 0 || secondsSince(fromUs, timeUs) < untilS, valid);
    }
  });
}

/** Answers as a Redis that holds what a vector says. */
class Store {
  trips = 0;
  closed = false;

  constructor(keys) {
    this.keys = keys;
  }

  async exchange(commands) {
    this.trips += 1;
    return commands.map(([command, key, ...fields]) => {
      const held = this.keys[key];
      if (command === "GET") return bytes(held);
      if (command === "HGETALL") return Object.entries(held ?? {}).flatMap(([field, value]) => [Buffer.from(field), bytes(value)]);
      const values = fields.map((field) => bytes(held?.[field]));
      return command === "HMGET" ? values : values[0];
    });
  }
}

function bytes(value) {
  if (value === undefined) return null;
  if (typeof value === "string") return Buffer.from(value);
  return value.hex === undefined ? Buffer.from(JSON.stringify(value)) : Buffer.from(value.hex, "hex");
}

/** A row whose large integers are BigInts. */
test("a key has 4,096 bytes at most", () => {
  assert.equal(entityKey({ who: "é".repeat(2048) }, ["who"], ["str"]).length, 2048);
  assert.throws(() => entityKey({ who: `${"é".repeat(2048)}a` }, ["who"], ["str"]), InputError);
  assert.throws(() => entityKey({ who: "%".repeat(1366) }, ["who"], ["str"]), InputError);
});

function plain(keys) {
  return Object.fromEntries(Object.entries(keys).map(([name, value]) => [name, value?.int ? BigInt(value.int) : value]));
}
