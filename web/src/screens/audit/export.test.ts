import { expect, test } from "vitest";
import { jsonLines } from "./export";

test("a line is an entry whole, its details no text in a text", () => {
  const entry = { seq: 7, at: "2026-03-01T10:00:00Z", actor: "ann", action: "workload.mode", subject: "u-1", name: "web", details: '{"why":"a, \\"b\\""}', previous: "p", hash: "h" };
  const [line, end] = jsonLines([entry, entry]).split("\n");
  expect(JSON.parse(line ?? "")).toEqual({ ...entry, details: { why: 'a, "b"' } });
  expect(end).toBe(line);
});
