import { expect, test } from "vitest";
import { refusal } from "./may";

const ROLES = { viewer: ["read"], responder: ["read", "quarantine"], administrator: ["read", "quarantine", "tokens"] };

test("it says who could, and who one is", () => {
  expect(refusal("quarantine", ["viewer"], ROLES)).toBe("To quarantine takes the role responder or administrator; you are viewer.");
  expect(refusal("tokens", ["viewer", "responder"], ROLES)).toBe("To manage tokens and sessions takes the role administrator; you are viewer, responder.");
});
