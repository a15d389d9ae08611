import { expect, test } from "vitest";
import { placeAfter, problemOf } from "./problems";

test("a code is said in words, and nothing else of an address is", () => {
  expect(problemOf("")).toBeNull();
  expect(problemOf("?problem=no-role")).toMatchObject({ code: "no-role", message: "the provider knows you, but you have no role here" });
  const made = problemOf("?problem=call%20555-1234");
  expect(made).toMatchObject({ code: "sign-in-refused" });
  expect(`${made?.message} ${made?.help}`).not.toContain("555");
});

test("a provider leads back to the page that was asked for, never to the refusal", () => {
  expect(placeAfter("/workloads", "?where=app%3Dshop")).toBe("/workloads?where=app%3Dshop");
  expect(placeAfter("/login", "?problem=no-role")).toBe("/");
});
