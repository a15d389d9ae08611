import { expect, test } from "vitest";
import { type Replaced, replacedHere } from "./replaced";

const one: Replaced = { id: "q1", name: "vm", level: "isolate", by: "ann", why: "worm", until: null, weaker: ["ends at 12:00, not only when it is released"] };

test("what a quarantine replaces names it, whose it is, and what becomes weaker", () => {
  expect(replacedHere([one, { ...one, until: "noon", weaker: [] }], (time) => `at ${time}`)).toEqual([
    "vm: isolate, until somebody releases it, by ann, q1: worm. It ends at 12:00, not only when it is released.",
    "vm: isolate, until at noon, by ann, q1: worm.",
  ]);
});

test("many are counted, not listed", () => {
  expect(replacedHere(Array.from({ length: 8 }, () => one), String).at(-1)).toBe("and 3 more");
});
