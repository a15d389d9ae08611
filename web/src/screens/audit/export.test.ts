import { expect, test } from "vitest";
import type { AuditEntry } from "../../api/types";
import { csvOf, jsonLines } from "./export";

const entry = (change: Partial<AuditEntry>): AuditEntry => ({ seq: 7, at: "2026-03-01T10:00:00Z", actor: "ann", action: "workload.mode", subject: "u-1", details: '{"why":"a, \\"b\\""}', previous: "p", hash: "h", ...change });

test("a line is an entry whole, its details no text in a text", () => {
  const [line, end] = jsonLines([entry({})], () => "web").split("\n");
  expect(JSON.parse(line ?? "")).toEqual({ seq: 7, at: "2026-03-01T10:00:00Z", actor: "ann", action: "workload.mode", subject: "u-1", name: "web", details: { why: 'a, "b"' }, previous: "p", hash: "h" });
  expect(end).toBe("");
});

test("a row is quoted, and nothing in it is computed", () => {
  expect(csvOf([entry({ actor: "=cmd()" })], () => "web\r\n1")).toBe(
    "seq,at,actor,action,subject,name,details,previous,hash\r\n" +
    `7,2026-03-01T10:00:00Z,'=cmd(),workload.mode,u-1,"web\r\n1","{""why"":""a, \\""b\\""""}",p,h\r\n`,
  );
});
