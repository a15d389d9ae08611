import { expect, test } from "vitest";
import { ago, labelText, percent, plural, printable, span } from "./words";

test("a share is never rounded to nothing or to all", () => {
  expect([percent(0, 9), percent(1, 5000), percent(4999, 5000), percent(9, 9), percent(0, 0)]).toEqual(
    ["0 %", "1 %", "99 %", "100 %", "–"],
  );
});

test("a span is told in the largest unit that fits", () => {
  expect([0, 59, 60, 3599, 3600, 86_400 * 3].map((one) => span(one))).toEqual(["0 s", "59 s", "1 min", "59 min", "1 h", "3 d"]);
});

test("times before and after now", () => {
  const now = Date.parse("2026-03-01T12:00:00Z");
  expect(ago("2026-03-01T11:58:00Z", now)).toBe("2 min ago");
  expect(ago("2026-03-01T14:00:00Z", now)).toBe("in 2 h");
  expect(ago("2026-03-01T13:59:50Z", now)).toBe("in 2 h");
});

test("a label cannot turn the writing direction", () => {
  expect(printable("web\u202Egnp.exe")).toBe("web\uFFFDgnp.exe");
});

test("labels are told by key, whatever their order", () => {
  expect(labelText({ role: "web", app: "shop" })).toBe("app=shop, role=web");
  expect(plural(1, "host") + plural(2, "policy", "policies")).toBe("1 host2 policies");
});
