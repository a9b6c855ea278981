// How the values of a feature are distributed.

import { facts, h, s, table } from "./dom.js";
import { counted, number, percent } from "./text.js";

const WIDTH = 640;
const HEIGHT = 140;

/** A drawing of a feature's values with its figures. */
export function distribution(found, of) {
  const told = `${counted(of.rows, "sample")} of ${of.first} to ${of.last}, as the feature was just before events of the source`;
  return [
    found.bins?.length ? histogram(found.bins) : null,
    found.common?.length ? bars(found.common, of.rows) : null,
    facts([
      ["Without a value", percent(found.missing)],
      ["Mean", found.mean === null ? null : number(found.mean)],
      ["Different values", found.distinct === null ? null : number(found.distinct)],
    ]),
    found.quantiles?.length
      ? table(
          ["quantile", ...found.quantiles.map(([name]) => name)],
          [["value", ...found.quantiles.map(([, value]) => number(value))]],
          "Quantiles",
        )
      : null,
    h("p", { class: "note" }, told),
  ];
}

function histogram(bins) {
  const most = Math.max(...bins.map(([, , count]) => count));
  const step = WIDTH / bins.length;
  const [first, last] = [bins[0][0], bins.at(-1)[1]];
  const columns = bins.map(([from, to, count], place) => {
    const height = count ? Math.max((count / most) * HEIGHT, 2) : 0;
    const place_ = { x: place * step + 1, y: HEIGHT - height, width: Math.max(step - 2, 1), height };
    return s("rect", place_, s("title", {}, `${number(from)} to ${number(to)}: ${number(count)}`));
  });
  const label = `Histogram from ${number(first)} to ${number(last)}`;
  return h(
    "figure",
    { class: "chart" },
    s(
      "svg",
      { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label, preserveAspectRatio: "none" },
      columns,
    ),
    h("figcaption", {}, h("span", {}, number(first)), h("span", {}, number(last))),
  );
}

function bars(common, rows) {
  const drawn = ([value, count]) => [
    h("dt", {}, value === "" ? "(empty text)" : value),
    h("dd", {}, h("meter", { min: 0, max: rows, value: count }), ` ${percent(count / rows)}`),
  ];
  return h("dl", { class: "bars" }, common.map(drawn));
}
