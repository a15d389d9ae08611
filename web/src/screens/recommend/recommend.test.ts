import { expect, test } from "vitest";
import { accepts, applicationsOf, choiceOf, choiceText, coveredBy, flipped } from "./accepting";
import type { Recommended, Series } from "./asking";
import { partsOf, plainText } from "./rule";
import { bucketOf, pictureOf, spanIn, spanOf, spanText } from "./series";

const rule = (name: string, connections: number) => ({ rule: `shop/${name}`, policy: "shop", evidence: { connections } });
const TOLD = {
  coverage: { learned: 90, already_allowed: 10, uncovered: 20, set_aside: 5, not_selected: 0, connections: 125 },
  rules: [rule("a", 60), rule("b", 30)], scopes: { shop: "env=prod, app=shop" }, by_policy: [{ subject: "shop", verdict: "ready" }],
} as unknown as Recommended;

test("a rejected rule takes its connections out of the coverage, and no others", () => {
  const all = choiceOf(new URLSearchParams(""));
  expect(coveredBy(TOLD, all)).toEqual({ wanted: 120, inForce: 10, accepted: 90, rejected: 0, left: 20, rules: 2 });
  const some = flipped(all, "shop/b");
  expect(coveredBy(TOLD, some)).toMatchObject({ accepted: 60, rejected: 30, rules: 1 });
  expect(coveredBy(TOLD, flipped(some, "shop/b"))).toMatchObject({ accepted: 90 });
});

test("the address carries the choice either way", () => {
  const none = { isAll: false, but: new Set(["shop/a"]) };
  const { none: word, but } = choiceText(none);
  const read = choiceOf(new URLSearchParams({ none: word, but }));
  expect([accepts(read, "shop/a"), accepts(read, "shop/b")]).toEqual([true, false]);
});

test("an application finds its policy however its scope is written; what breaks most comes first", () => {
  const counted = { uncontrolled: 0, blocked: 0 };
  const found = applicationsOf([{ ...counted, application: "app=pay", allowed: 5, would_block: 1 }, { ...counted, application: "app=shop,env=prod", allowed: 1, would_block: 9 }], TOLD);
  expect(found.map((one) => [one.selector, one.breaks, one.rules, one.confidence?.verdict])).toEqual([["app=shop,env=prod", 9, 2, "ready"], ["app=pay", 1, 0, undefined]]);
});

test("commas in brackets and quotes part nothing", () => {
  const text = '  # seen, once\n  - name: x\n    allow: {from: [api, "app=a,env=b"], to: "global: role=db", service: [ping, tcp/80]}\n    because: y\n';
  expect(partsOf(text)).toEqual({ from: "api, app=a,env=b", to: "role=db", service: "ping, tcp/80" });
  expect(plainText(text).split("\n")[0]).toBe("- name: x");
  expect(partsOf("deny: {from: a, to: b}")).toBeNull();
});

const SERIES: Series = { start: ["2026-03-01T00:00:00Z", "2026-03-01T03:00:00Z"], allowed: [6, 1], escaped: [2, 0], opened: [0, 0], blocked: [2, 0] };

test("bars stand where their time is and are as high as their count", () => {
  const picture = pictureOf(SERIES, 1);
  expect(picture.bars.map((bar) => [Math.round(bar.x * 12), Math.round(bar.width * 12)])).toEqual([[8, 1], [11, 1]]);
  expect(picture.bars[0]?.pieces).toEqual([{ kind: "escaped", y: 0, height: 0.2 }, { kind: "blocked", y: 0.2, height: 0.2 }, { kind: "allowed", y: 0.4, height: 0.6 }]);
  expect([bucketOf(3), bucketOf(30), bucketOf(90)]).toEqual([1, 6, 24]);
});

test("a brush picks whole bars, all of them is no choice, and the address brings it back", () => {
  const picture = pictureOf(SERIES, 1);
  const span = spanOf(picture, 0.99, 0.95, 1);
  expect(spanText(span)).toBe("2026-03-01T03:00:00.000Z..2026-03-01T04:00:00.000Z");
  expect(spanIn(spanText(span))).toEqual(span);
  expect(spanOf(picture, 0, 1, 1)).toBeNull();
  expect(spanIn("nonsense")).toBeNull();
});
