import { describe, expect, it } from "vitest";
import type { Rollout } from "../../api/types";
import { publishedOf, stagesOf, standingOf, storyOf } from "./stages";

const rollout = (change: Partial<Rollout>): Rollout => ({ version: 3, stage: "done", problem: "", total: 4, confirmed: 4, laggards: [], canary: 0, more_laggards: 0, behind: {}, first: [], soak_s: 20, ...change });
const said = (change: Partial<Rollout>) => stagesOf(rollout(change)).map((one) => `${one.name} ${one.state}`);

describe("a rollout", () => {
  it("has a canary only where somebody went first", () => {
    expect(said({ canary: 1 })).toEqual(["Canary past", "Everybody past", "Done past"]);
    expect(said({})).toEqual(["Everybody past", "Done past"]);
    expect(said({ stage: "canary", canary: 1 })).toEqual(["Canary now", "Everybody ahead", "Done ahead"]);
    expect(said({ stage: "spreading", canary: 1 })).toEqual(["Canary past", "Everybody now", "Done ahead"]);
    expect(said({ stage: "stopped", canary: 1 })).toEqual(["Stopped bad"]);
  });

  it("is no success where no host is", () => {
    expect(said({ total: 0, confirmed: 0 })).toEqual([]);
    expect(storyOf(rollout({ total: 0, confirmed: 0 }))).toContain("nothing is enforced");
    expect(standingOf(rollout({ total: 0, confirmed: 0 }))).toEqual(["plain", "on no host"]);
  });

  it("is on its way only where a host can take it", () => {
    expect(publishedOf(2, 0)).toBe("Version 2 is published; no host runs an agent yet");
    expect(publishedOf(2, 4)).toBe("Version 2 is on its way");
    expect(publishedOf(2, undefined)).toBe("Version 2 is on its way");
  });

  it("tells who lacks it", () => {
    const offline = { uuid: "u", name: "a", state: "offline", why: "" };
    expect(storyOf(rollout({}))).toBe("All 4 hosts read it back.");
    expect(storyOf(rollout({ confirmed: 3, laggards: [offline], behind: { offline: 1 } }))).toBe("Every host that is heard read it back; 1 host is not heard and will get it.");
    expect(standingOf(rollout({ confirmed: 3, laggards: [offline], behind: { offline: 1 } }))).toEqual(["warning", "on 3 of 4"]);
    expect(standingOf(rollout({}))).toEqual(["good", "in force"]);
  });
});
