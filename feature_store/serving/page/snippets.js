// Code that reads a feature or a service, and that trains with it.

import { key } from "./api.js";
import { h } from "./dom.js";

const SAMPLES = [
  [/^(u?int)/, 1],
  [/^(float|double|decimal)/, 1.5],
  [/^bool/, true],
  [/^timestamp/, "2026-03-01T09:00:00Z"],
  [/^date/, "2026-03-01"],
];

/** A value of a type, to be replaced. */
export function sample(dtype) {
  return SAMPLES.find(([pattern]) => pattern.test(dtype ?? ""))?.[1] ?? "...";
}

/** Ways to read and to train with features of a list. */
export function ofFeatures(env, names, row) {
  const listed = python(names);
  return [
    ["Read it in Python", reading(env, listed, row)],
    ["Read it over HTTP", posting("v1/features", { features: names, rows: [row] })],
    ["Train with it", training(listed, row)],
  ];
}

/** Ways to read and to train with a service. */
export function ofService(env, service, row, asked) {
  const { name, version } = service;
  const body = { keys: row, ...(Object.keys(asked).length ? { inputs: asked } : {}) };
  const whole = { ...row, ...asked };
  return [
    ["Read it in Python", reading(env, python(`${name}@${version}`), whole, service.features.some(isFunction))],
    ["Read it over HTTP", posting(`v1/services/${name}/versions/${version}/features`, body)],
    ["Train with it", training(`store.registry.service(${python(`${name}@${version}`)})`, whole)],
  ];
}

/** Pieces of code, each with a button that copies it. */
export function shown(pieces) {
  return pieces.map(([title, code]) => {
    const copy = h("button", { type: "button", class: "copy", click: copied, "aria-label": `Copy: ${title}` }, "Copy");
    return h("div", { class: "snippet" }, h("h3", {}, title), copy, h("pre", { tabindex: "0" }, h("code", {}, code)));
  });

  async function copied({ target }) {
    await navigator.clipboard?.writeText(target.parentElement.querySelector("code").textContent);
    target.textContent = "Copied";
    setTimeout(() => (target.textContent = "Copy"), 1500);
  }
}

function isFunction(feature) {
  return feature.kind === "on_demand";
}

function reading(env, features, row, functions = false) {
  const declared = functions
    ? "from features import registry  # or wherever its on-demand functions are declared\n"
    : "";
  return `import os

from feature_store.reader import FeatureReader
${declared}
url = os.environ["FEATURE_STORE_REDIS_URL"]
with FeatureReader(url, env=${python(env)}${functions ? ", functions=registry" : ""}) as reader:
    vector = reader.get_online_features(${features}, ${python(row)})
print(vector.values, vector.statuses)
`;
}

function training(features, row) {
  const columns = Object.entries(row).map(([name, value]) => `    ${python(name)}: [${python(value)}],\n`);
  return `import pandas as pd

from feature_store import FeatureStore

spine = pd.DataFrame({
${columns.join("")}    "event_timestamp": pd.to_datetime(["2026-03-01 09:00Z"]),
})
with FeatureStore() as store:
    training = store.get_historical_features(spine, ${features}).to_pandas()
`;
}

function posting(path, body) {
  const address = new URL(path, document.baseURI).href;
  const header = key() ? ` -H "Authorization: Bearer $KEY"` : "";
  return `curl -s${header} --json ${shell(JSON.stringify(body))} ${shell(address)}\n`;
}

/** A value as Python writes it. */
export function python(value) {
  if (value === null || value === undefined) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map(python).join(", ")}]`;
  if (typeof value === "object")
    return `{${Object.entries(value)
      .map(([k, v]) => `${python(k)}: ${python(v)}`)
      .join(", ")}}`;
  return JSON.stringify(value);
}

/** A text as one word of a shell. */
export function shell(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
