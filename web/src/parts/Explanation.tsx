// Why a connection passes or not, in the words of `ringfence explain`.

import { useQuery } from "@tanstack/react-query";
import { api, told } from "../api/client";
import type { Explained, HostState, ModeName } from "../api/types";
import { Badge, StateBadge, VerdictBadge } from "../ui/Badge";
import { ErrorBox, Loading } from "../ui/Box";
import { printable } from "../words";
import type { Draft } from "./inForce";
import css from "./parts.module.css";

interface End {
  end: "source" | "destination";
  workload: string;
  mode: string;
  verdict: string;
  reason: string;
  rule: string | null;
}

export interface Connection {
  source: string;
  destination: string;
  service: string;
}

/** Asked of what is in force now, or would be under a draft; as every host is, or as if all were in one mode. */
export function Explanation({ of, under, asMode }: { of: Connection; under?: Draft; asMode?: ModeName }) {
  const asked = useQuery({
    queryKey: ["explain", of, under, asMode],
    queryFn: ({ signal }) => told(api.POST("/v1/explain", { body: { ...of, mutual_tls: false, ...(under && { draft: under }), ...(asMode && { as_mode: asMode }) }, signal })),
    retry: false,
    staleTime: 30_000,
  });
  if (asked.error) return <ErrorBox error={asked.error} />;
  return asked.data ? <Answer explained={asked.data} /> : <Loading lines={2} />;
}

function Answer({ explained: { answer, nearest, others, unheld = [], late = {} } }: { explained: Explained }) {
  const ends = answer.ends as End[];
  const more = Object.entries(others ?? {});
  const saying = ends.filter((end) => end.verdict === answer.verdict);
  const isLoose = answer.verdict === "blocked" && saying.every((end) => unheld.includes(end.workload));
  const verdict = isLoose ? "unheld" : answer.verdict;
  return (
    <div className={`${css.verdict} ${css[verdict] ?? ""}`}>
      <div className={css.line}><VerdictBadge verdict={verdict} /><span>{reasonOf(answer.reason)}</span></div>
      <div className={css.line}><code>{printable(answer.source)}</code>→<code>{printable(answer.destination)}</code>on<code>{printable(answer.service)}</code></div>
      {isLoose && <p>Policy says blocked. No agent of ours runs on {saying.map((end) => printable(end.workload)).join(" or ")}, so <b>nothing stops it</b>.</p>}
      {Object.entries(late).map(([name, state]) => <p key={name}><b>{printable(name)}</b> does not have what it was told, as far as is known <StateBadge state={state as HostState} />: what it enforces may not be this.</p>)}
      {answer.rule && <p>Rule <code>{printable(answer.rule)}</code>{answer.file && <span className="soft"> {printable(answer.file)}{answer.line ? `:${answer.line}` : ""}</span>}</p>}
      {nearest && <p>The nearest allow is <code>{printable(nearest.rule)}</code>, which lacks {nearest.missing.map((one) => printable(one).replaceAll("`", "")).join(", ")}.</p>}
      {ends.length > 0 && (
        <ul className={css.ends}>
          {ends.map((end) => (
            <li key={end.end} className={css.line}>
              <span className="soft">{end.end}</span><b>{printable(end.workload)}</b>{unheld.includes(end.workload) ? <Badge tone="hatched" title="What policy says of it, nobody enforces there.">no agent</Badge> : <Badge>{end.mode}</Badge>}<span>{end.verdict}</span>
              {end.rule && <code className="soft">{printable(end.rule)}</code>}
            </li>
          ))}
        </ul>
      )}
      {more.length > 1 && <p className="soft small">It stands for several connections: {more.map(([verdict, n]) => `${n} ${verdict}`).join(", ")}; this is the worst.</p>}
    </div>
  );
}

const REASONS: Record<string, string> = {
  essential: "essential traffic", quarantine: "one end is in quarantine", forbid: "a rule forbids it", allow: "a rule allows it",
  deny: "a rule denies it", default: "no rule allows it", uncontrolled: "nothing of ours is at either end",
};
const reasonOf = (reason: string): string => REASONS[reason] ?? reason;
