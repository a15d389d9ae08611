import { expect, test } from "vitest";
import { passedOn } from "./forwards";

const hit = (name: string, forwards: boolean) => ({ name, forwards });

test("whose forwarded traffic ends is named, a few of many", () => {
  expect(passedOn([hit("web", false)])).toBe("");
  expect(passedOn([hit("web", false), hit("db", true)])).toBe("What db passes on for others (containers?) is dropped, too.");
  expect(passedOn(["a", "b", "c", "d"].map((name) => hit(name, true)))).toBe("What a, b, c ... pass on for others (containers?) is dropped, too.");
});
