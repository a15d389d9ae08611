// The values of the API by short names. They are made from docs/reference/openapi.json at each build.

import type { components } from "./schema";

type Schemas = components["schemas"];
export type Alert = Schemas["Alert"];
export type AuditEntry = Schemas["AuditEntry"];
export type AuditChecked = Schemas["AuditChecked"];
export type Contained = Schemas["ContainedView"];
export type Explained = Schemas["Explained"];
export type Finding = Schemas["Finding"];
export type LabelsPlanned = Schemas["LabelsPlanned"];
export type Box = Schemas["BoxView"];
export type Broken = Schemas["Broken"];
export type Me = Schemas["Me"];
export type Mode = Schemas["Mode"];
export type Posture = Schemas["Posture"];
export type Session = Schemas["SessionView"];
export type OpenSession = Schemas["OpenSession"];
export type WayIn = Schemas["WayIn"];
export type Rollout = Schemas["RolloutView"];
export type Status = Schemas["Status"];
export type Applied = Schemas["Applied"];
export type Checked = Schemas["Checked"];
export type How = Schemas["How"];
export type Planned = Schemas["Planned"];
export type Proposal = Schemas["ProposalView"];
export type Rule = Schemas["RuleView"];
export type Standing = Schemas["StandingView"];
export type TestOutcome = Schemas["TestView"];
export type Version = Schemas["VersionView"];
export type VersionText = Schemas["VersionText"];
export type Words = Schemas["Words"];
export type Workload = Schemas["WorkloadView"];
export type HostState = Workload["state"];
export type Severity = Alert["severity"];
export type ModeName = Mode["in"];
export type Verdict = "allowed" | "would-block" | "blocked" | "unheld" | "no-policy";

/** What `/v1/events` tells (server-sent events are not described in OpenAPI). */
export interface LiveEvent {
  kind: "violation" | "alert" | "still-here";
  message: string;
  host: string;
  alert: Alert | null;
  lost: number;
}
