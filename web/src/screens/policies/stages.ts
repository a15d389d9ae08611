// A rollout in words: its stages, and what may be said of it. Nothing is said that no host read back.

import type { Rollout } from "../../api/types";
import type { Tone } from "../../ui/Badge";
import { plural } from "../../words";

export interface Stage {
  id: string;
  name: string;
  state: "past" | "now" | "ahead" | "bad";
}

/** The stages there are: no canary where nobody was to go first, and none at all where there is no host. */
export function stagesOf({ stage, canary, total }: Pick<Rollout, "stage" | "canary" | "total">): Stage[] {
  if (total === 0) return [];
  if (stage === "stopped") return [{ id: "stopped", name: "Stopped", state: "bad" }];
  const steps = [...(canary > 0 ? [["canary", "Canary"]] : []), ["spreading", "Everybody"], ["done", "Done"]] as const;
  const at = steps.findIndex(([id]) => id === stage);
  return steps.map(([id, name], index) => ({ id: id ?? "", name: name ?? "", state: stage === "done" || index < at ? "past" : index === at ? "now" : "ahead" }));
}

/** What is true of it now, in a sentence. */
export function storyOf({ stage, canary, total, confirmed, behind, soak_s: soak }: Rollout): string {
  if (stage === "unknown") return "The controller's database does not answer: how far it is is not known.";
  if (total === 0) return "It is published, and no host has an agent that could take it: nothing is enforced.";
  if (stage === "canary") return `${plural(canary, "host")} ${canary === 1 ? "goes" : "go"} first, on trial. The rest follow when all of them are well for ${soak} s.`;
  if (stage === "spreading") return "Every host gets it, each on trial where a trial was asked for.";
  if (stage === "stopped") return "Every host that took it goes back to the version before.";
  if (stage === "superseded" || stage === "passed") return "Another version took its place.";
  const unheard = behind?.offline ?? 0;
  if (confirmed === total) return total === 1 ? "The host read it back." : `All ${plural(total, "host")} read it back.`;
  return unheard === total - confirmed ? `Every host that is heard read it back; ${plural(unheard, "host")} ${unheard === 1 ? "is" : "are"} not heard and will get it.` : "It went to every host; those below do not have it.";
}

/** What is said once a version is published: on its way only where somebody can take it. */
export function publishedOf(version: number, hosts: number | undefined): string {
  return hosts === 0 ? `Version ${version} is published; no host runs an agent yet` : `Version ${version} is on its way`;
}

/** The newest version in the history: how it stands. */
export function standingOf(rollout: Rollout | undefined): readonly [Tone, string] {
  if (!rollout) return ["plain", "newest"];
  if (rollout.stage === "stopped") return ["bad", "stopped"];
  if (rollout.total === 0) return ["plain", "on no host"];
  if (rollout.stage === "canary") return ["accent", "at its canary"];
  if (rollout.stage === "spreading") return ["accent", "on its way"];
  return rollout.confirmed === rollout.total ? ["good", "in force"] : ["warning", `on ${rollout.confirmed} of ${rollout.total}`];
}
