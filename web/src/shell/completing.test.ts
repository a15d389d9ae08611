import { expect, test } from "vitest";
import type { Words } from "../api/types";
import { offersAt, readRecent, remembered } from "./completing";

const LABELS: Words["labels"] = [
  { key: "env", workloads: 7, values: { prod: 4, stage: 2, dev: 1 }, more: 0, is_ignored: false },
  { key: "app", workloads: 9, values: { shop: 8, "shop-old": 1 }, more: 0, is_ignored: false },
  { key: "example.com/tier", workloads: 1, values: { gold: 1 }, more: 0, is_ignored: false },
  { key: "host", workloads: 9, values: {}, more: 0, is_ignored: true },
];
const at = (text: string, caret = text.length) => offersAt(text, caret, LABELS);
const words = (text: string) => at(text).map((one) => one.text);

test("keys, the most used first, never one that may not be selected on", () => {
  expect(words("")).toEqual(["app", "env", "example.com/tier"]);
  expect(words("en")).toEqual(["env"]);
  expect(words("tier")).toEqual(["example.com/tier"]);
  expect(words("app=shop, e")).toEqual(["env", "example.com/tier"]);
  expect(at("app=shop,e")[0]).toMatchObject({ line: "app=shop,env=", caret: 13, isOpen: true });
  expect(at("!e")[0]).toMatchObject({ line: "!env", isOpen: false });
});

test("values of the key before them", () => {
  expect(words("env=")).toEqual(["prod", "stage", "dev"]);
  expect(words("env!=s")).toEqual(["stage"]);
  expect(at("app=sh,env=prod", 6)[0]).toMatchObject({ line: "app=shop,env=prod", caret: 8 });
  expect(words("no=")).toEqual([]);
});

test("sets: operators after a key, values that are not in it yet", () => {
  expect(words("env ")).toEqual(["in", "notin"]);
  expect(at("env i")[0]?.line).toBe("env in (");
  expect(words("env in (prod, ")).toEqual(["stage", "dev"]);
  expect(at("env notin (prod,st")[0]?.line).toBe("env notin (prod,stage");
  expect(words("env in (prod, dev) ")).toEqual([]);
});

test("recent questions are few, each once, and survive nonsense", () => {
  expect(remembered(["a=b", "c=d"], "c=d")).toEqual(["c=d", "a=b"]);
  expect(remembered(["a=b"], " ")).toEqual(["a=b"]);
  expect(readRecent('["a=b", 3]')).toEqual(["a=b"]);
  expect(readRecent("{")).toEqual([]);
});
