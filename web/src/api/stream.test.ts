import { expect, test } from "vitest";
import { eventsIn } from "./stream";

test("events come out whole, however the bytes are cut", () => {
  const text = "event: alert\r\ndata: {\"a\":1}\r\n\r\n: a comment\n\nevent: still-here\ndata: one\ndata: two\n\n";
  for (let size = 1; size <= text.length; size += 1) {
    const take = eventsIn();
    const out = [];
    for (let at = 0; at < text.length; at += size) out.push(...take(text.slice(at, at + size)));
    expect(out).toEqual([{ event: "alert", data: '{"a":1}' }, { event: "still-here", data: "one\ntwo" }]);
  }
});

test("what has no end yet waits", () => {
  expect(eventsIn()("data: half")).toEqual([]);
});
