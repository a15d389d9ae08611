import { expect, test } from "vitest";
import { errorOf } from "./errors";

test("a problem keeps its code, its message and the next step", () => {
  const error = errorOf(403, { title: "Forbidden", detail: "x", code: "not-allowed", message: "`ann` may not `label`", help: "ask somebody" });
  expect([error.status, error.code, error.message, error.help]).toEqual([403, "not-allowed", "`ann` may not `label`", "ask somebody"]);
});

test("an answer of somebody in between is not taken for ours", () => {
  expect(errorOf(502, "<html>Bad gateway</html>").code).toBe("not-understood");
});
