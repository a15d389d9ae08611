import { expect, test } from "vitest";
import { changed } from "./address";

test("a change touches what it names, takes away what it empties, and leaves the address before as it was", () => {
  const before = new URLSearchParams("where=app%3Dshop&since=7d&tab=table");
  expect(changed(before, { tab: "", open: "a b", since: "1h" }).toString()).toBe("where=app%3Dshop&since=1h&open=a+b");
  expect(before.toString()).toBe("where=app%3Dshop&since=7d&tab=table");
});
