// A row of a request, with a value of the right type for each column.

import { viewsOf } from "./page.js";
import { sample } from "./snippets.js";

export function rowOf(shop, view) {
  const columns = shop.source(view.source)?.columns ?? [];
  const keys = shop.entity(view.entity)?.join_keys ?? [];
  return Object.fromEntries(keys.map((name) => [name, sample(columns.find((each) => each.name === name)?.dtype)]));
}

export function rowFor(shop, service) {
  const own = Object.assign({}, ...viewsOf(shop, service).map((each) => rowOf(shop, each)));
  const roles = service.features.flatMap((each) => Object.entries(each.columns));
  const known = { ...Object.fromEntries(roles.map(([key, column]) => [column, own[key]])), ...own };
  return Object.fromEntries(service.keys.map((name) => [name, known[name] ?? sample()]));
}

export function asked(service) {
  return Object.fromEntries(Object.entries(service.requests).map(([name, kind]) => [name, sample(kind)]));
}
