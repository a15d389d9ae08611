// Every version there was: when, who, why; what any two say apart; the way back.

import { useState } from "react";
import type { Version } from "../../api/types";
import { Badge, type Tone } from "../../ui/Badge";
import { Empty, ErrorBox, Loading } from "../../ui/Box";
import { Button } from "../../ui/Button";
import { type Column, Table } from "../../ui/Table";
import { useNow } from "../../ui/useNow";
import { ago, moment, printable } from "../../words";
import { type InForce, useRollout, useVersions, VERSIONS_A_PAGE } from "./asked";
import { Compared } from "./Compared";
import { usePlace } from "./place";
import css from "./Policies.module.css";
import { RollbackDialog } from "./RollbackDialog";
import { standingOf } from "./stages";

const columnsAt = (now: number, newest: number, standing: readonly [Tone, string]): readonly Column<Version>[] => [
  { id: "number", name: "Version", width: "160px", by: (one) => one.number, cell: (one) => <><b>{one.number}</b> {one.number === newest && <Badge tone={standing[0]}>{standing[1]}</Badge>}</> },
  { id: "note", name: "Note", cell: (one) => one.note ? <span title={printable(one.note)}>{printable(one.note)}</span> : <span className="soft">none</span> },
  { id: "actor", name: "Who", width: "18%", by: (one) => one.actor, cell: (one) => printable(one.actor) },
  { id: "at", name: "When", width: "116px", by: (one) => Date.parse(one.at), cell: (one) => <span className="soft" title={moment(one.at)}>{ago(one.at, now)}</span> },
  { id: "files", name: "Files", width: "72px", isNumber: true, isExtra: true, by: (one) => one.files.length, cell: (one) => one.files.length },
];

export function Versions({ base }: { base: InForce }) {
  const place = usePlace();
  const [before, setBefore] = useState(0);
  const [backTo, setBackTo] = useState<number | null>(null);
  const asked = useVersions(before);
  const rollout = useRollout().data;
  const now = useNow(30_000);
  const [old, latest] = [Number(place.get("old")) || 0, Number(place.get("new")) || 0];
  if (!asked.data) return asked.error ? <ErrorBox error={asked.error} onRetry={() => void asked.refetch()} /> : <Loading lines={8} />;
  if (asked.data.length === 0 && before === 0) return <Empty icon="clock" title="No version yet"><p>Each apply makes one: its text, its note and who made it are kept, and any of them can be gone back to.</p></Empty>;
  const standing = standingOf(rollout?.version === base.number ? rollout : undefined);
  const pick = (picked: ReadonlySet<string>): void => {
    const both = [...picked].map(Number).sort((a, b) => a - b).slice(-2);
    place.put({ old: both.length === 2 ? String(both[0]) : "", new: String(both.at(-1) ?? "") });
  };
  const open = (one: Version): void => place.put({ old: String(one.parent ?? 0), new: String(one.number) });
  const canGoBack = latest > 0 && latest < base.number;
  return (
    <div className={css.split}>
      <div className={css.withBar}>
        <div className={css.bar}>
          <span className="soft">Open a version to see what it changed, or tick two.</span>
          <span className={css.last}>
            {before > 0 && <Button isTight look="quiet" onClick={() => setBefore(0)}>Newest</Button>}
            {asked.data.length === VERSIONS_A_PAGE && <Button isTight look="quiet" onClick={() => setBefore(asked.data.at(-1)?.number ?? 0)}>Older</Button>}
          </span>
        </div>
        <Table
          label="Versions" rows={asked.data} columns={columnsAt(now, base.number, standing)} idOf={(one) => String(one.number)} nameOf={(one) => `version ${one.number}`}
          opened={latest ? String(latest) : undefined} onOpen={open} picked={new Set([old, latest].filter(Boolean).map(String))} onPick={pick}
        />
      </div>
      {latest > 0 && (
        <Compared
          key={`${old}-${latest}`} old={old} latest={latest} version={asked.data.find((one) => one.number === latest)} now={now} onClose={() => place.put({ old: "", new: "" })}
          foot={canGoBack && <Button look="danger" icon="undo" needs="publish" onClick={() => setBackTo(latest)}>Roll back to version {latest}…</Button>}
        />
      )}
      {backTo !== null && <RollbackDialog base={base} to={backTo} onClose={() => setBackTo(null)} />}
    </div>
  );
}
