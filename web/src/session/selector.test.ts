import { describe, expect, it } from "vitest";
import { isWithin, matches, parse, wrongSelector } from "./selector";

const of = (text: string) => parse(text) ?? [];

describe("selectors", () => {
  it("pick as Kubernetes' do", () => {
    const web = { app: "shop", role: "web" };
    for (const text of ["app=shop", "app == shop", "app in (pay, shop),role", "env!=prod", "!env", "env notin (prod)"]) expect(matches(of(text), web), text).toBe(true);
    for (const text of ["app=pay", "env", "env=prod", "app notin (shop)", "!app", "app=shop,role=db"]) expect(matches(of(text), web), text).toBe(false);
  });

  it("lie within others, or do not", () => {
    for (const [inner, outer] of [["app=shop", "app=shop"], ["app=shop,env=prod", "app=shop"], ["app=shop", "app in (shop,pay)"], ["app=shop", "app"], ["app=shop", "app!=pay"], ["!env", "env!=prod"]] as const) expect(isWithin(of(inner), of(outer)), `${inner} in ${outer}`).toBe(true);
    for (const [inner, outer] of [["app=pay", "app=shop"], ["env=prod", "app=shop"], ["app in (shop,pay)", "app=shop"], ["app!=pay", "app"]] as const) expect(isWithin(of(inner), of(outer)), `${inner} in ${outer}`).toBe(false);
  });

  it("are refused with what may be meant", () => {
    expect(wrongSelector("app==shop,env=prod")).toBe("");
    expect(wrongSelector("app==shop,,")).toBe("Did you mean app=shop?");
    expect(wrongSelector("app: shop, env=prod,")).toBe("Did you mean app=shop,env=prod?");
    expect(wrongSelector("")).toBe("Write it like app=shop,env=prod.");
    expect(wrongSelector("app=")).toBe("Write it like app=shop,env=prod.");
    expect(wrongSelector("app in ()")).toBe("Write it like app=shop,env=prod.");
  });
});
