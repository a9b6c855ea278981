// Which page stands at which address.

import { Refused, ask } from "./api.js";
import { entity } from "./entity.js";
import { computed, feature } from "./feature.js";
import { nothing, start } from "./overview.js";
import { service } from "./service.js";
import { source } from "./source.js";
import { view } from "./view.js";

const MADE = { entities, sources, services, views, features };

/** The page of `#/group/name/part`. */
export async function made(shop, group, name = "", part = undefined) {
  if (!group) return start(shop);
  const page = Object.hasOwn(MADE, group) ? await MADE[group](shop, name, part) : null;
  return page ?? nothing(`There is no ${group} '${name}', or your key may not see it.`);
}

function entities(shop, name) {
  const one = shop.entity(name);
  return one && entity(shop, one);
}

async function sources(shop, name) {
  const one = shop.source(name);
  return one && source(shop, one, await detail("sources", name));
}

async function services(shop, name, part) {
  const one = shop.find("services", name);
  if (!one || part === undefined) return one && service(shop, one, await detail("services", one.name));
  const served = one.features.find((each) => each.name === part);
  return served && computed(shop, one, served);
}

async function views(shop, name) {
  const one = shop.find("views", name);
  return one && view(shop, one, await detail("views", one.name));
}

async function features(shop, name) {
  const [of, own] = name.split(":");
  const one = shop.find("views", of);
  const found = one?.features.find((each) => each.name === own);
  return found && feature(shop, one, found, await detail("views", one.name));
}

/** What the catalog itself does not hold; a page without it is still a page. */
async function detail(group, name) {
  try {
    return await ask("catalog", group, name);
  } catch (problem) {
    if (problem instanceof Refused && problem.status === 401) throw problem;
    return { versions: [], statistics: {} };
  }
}
