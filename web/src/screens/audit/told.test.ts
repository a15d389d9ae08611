import { expect, test } from "vitest";
import type { AuditEntry } from "../../api/types";
import { changeOf } from "./told";

const entry = (details: string): AuditEntry => ({ seq: 1, at: "", actor: "", action: "", subject: "", details, previous: "", hash: "" });

test("a change is told by what differs", () => {
  const told = JSON.stringify({ revision: 3, before: '{"app":"shop","role":"web"}', after: '{"app":"shop","role":"db","env":"prod"}' });
  expect(changeOf(entry(told))).toBe("role: web → db, env: – → prod");
});

test("why it was changed is told, and what is a default is not", () => {
  expect(changeOf(entry(JSON.stringify({ before: '{"in":"observe"}', after: '{"in":"enforce"}', why: "two quiet weeks" })))).toBe("in: observe → enforce; why: two quiet weeks");
  expect(changeOf(entry('{"version":2,"manner":{"live":"keep","trial":{}},"problem":""}'))).toBe("version: 2; manner: live=keep");
});

test("other details stand one after the other, and what is no JSON is shown as it is", () => {
  expect(changeOf(entry('{"name":"web","labels":{"app":"shop"},"why":""}'))).toBe("name: web; labels: app=shop");
  expect(changeOf(entry("broken {"))).toBe("details: broken {");
});
