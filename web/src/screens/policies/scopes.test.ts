import { expect, test } from "vitest";
import { overOf, scopesIn } from "./scopes";

test("the scope of a policy is read from its text, however it is quoted", () => {
  expect(scopesIn("policy: a\nscope: app=shop,env=prod # ours\n")).toEqual(["app=shop,env=prod"]);
  expect(scopesIn("policy: a\nscope: \"app in (shop, pay)\"\n---\npolicy: b\nowner: x\n")).toEqual(["app in (shop, pay)", null]);
  expect(scopesIn("# nothing yet\n")).toEqual([]);
});

test("a change is over what a policy was over, and what it becomes", () => {
  expect(overOf([{ before: "policy: a\nscope: app=shop\n", after: "policy: a\nscope: app=pay\n" }])).toEqual({ scopes: ["app=shop", "app=pay"] });
});
