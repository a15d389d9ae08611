import { expect, test } from "vitest";
import { claimWords } from "./claims";

test("an address that two hosts hold is told apart from one that is refused", () => {
  expect(claimWords({ address: "10.0.0.7", why: "contested", holder: "db-1" })).toContain("both hold it");
  expect(claimWords({ address: "10.0.0.7", why: "lie", holder: "db-1" })).toContain("gets none of them");
  expect(claimWords({ address: "10.0.0.7", why: "held", holder: "" })).toBe("It says it has 10.0.0.7, which another has; it is not given to it.");
  expect(claimWords({ address: "10.0.0.7", why: "new-reason", holder: "" })).toContain("new-reason");
});
