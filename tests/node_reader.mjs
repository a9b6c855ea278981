/** Answers reads, one a line of standard input: `[service, rows, as_of_us | null, now_us]`; of everything in argv[2:3]. */

import { createInterface } from "node:readline";

import { FeatureReader } from "../examples/reader-node/reader.js";
import { shown } from "../examples/reader-node/shown.js";

const [url, env] = process.argv.slice(2);
let now;
const reader = new FeatureReader(url, { env, nowUs: () => now });
for await (const line of createInterface({ input: process.stdin })) {
  const [service, rows, asOfUs, nowUs] = JSON.parse(line);
  now = nowUs;
  const answer = await reader.read(service, rows, { asOfUs: asOfUs ?? undefined }).catch((error) => ({ error: error.message }));
  console.log(JSON.stringify(answer, shown));
}
reader.close();
