import { expect, test } from "vitest";
import { become, keysCarried, putOf, valuesOf } from "./edits";

test("half an edit is not an edit, and is not nothing", () => {
  expect(putOf([{ key: " app ", value: "shop" }, { key: "", value: "" }])).toEqual({ put: { app: "shop" }, isWhole: true });
  expect(putOf([{ key: "app", value: " " }])).toEqual({ put: {}, isWhole: false });
});

test("what is carried, and by how many", () => {
  const workloads: { labels: Record<string, string> }[] = [{ labels: { app: "shop", env: "prod" } }, { labels: { app: "pay" } }, { labels: {} }];
  expect(keysCarried(workloads)).toEqual([["app", 2], ["env", 1]]);
  expect(valuesOf(workloads, "app")).toEqual(["pay", "shop"]);
});

test("labels become what is put, without what is taken off", () => {
  expect(become({ app: "shop", env: "prod" }, { app: "pay", role: "db" }, new Set(["env", "gone"]))).toEqual({ app: "pay", role: "db" });
});
