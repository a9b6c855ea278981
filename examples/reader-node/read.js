#!/usr/bin/env node
/**
 * Reads a feature service: `node read.js redis://127.0.0.1:6390/0 dev arrival_delay '{"origin": "JFK"}' ...`
 *
 * A row may name the time asked, in µs, as `as_of_us`. Without rows they are read from standard input, one a line. One
 * vector a line comes out; numbers that JSON does not have are objects, see `shown.js`.
 */

import { createInterface } from "node:readline";

import { FeatureReader } from "./reader.js";
import { shown } from "./shown.js";

const [url, env, service, ...given] = process.argv.slice(2);
if (service === undefined) {
  console.error("usage: read.js URL ENVIRONMENT SERVICE [ROW ...]");
  process.exit(2);
}
const reader = new FeatureReader(url, { env });
try {
  for await (const line of given.length ? given : createInterface({ input: process.stdin })) {
    const { as_of_us: asOfUs, ...row } = JSON.parse(line);
    const [vector] = await reader.read(service, [row], { asOfUs });
    console.log(JSON.stringify(vector, shown));
  }
} catch (error) {
  console.error(`error: ${error.message}`);
  process.exitCode = 1;
} finally {
  reader.close();
}
