// Stored traffic under the accepted rules, every host enforcing: what would stop, when, and what would mend it.

import { useMemo, useState } from "react";
import { Badge } from "../../ui/Badge";
import { Card, Empty, ErrorBox, Loading, Note } from "../../ui/Box";
import { Button } from "../../ui/Button";
import { Icon } from "../../ui/Icon";
import { count, moment, plural, printable } from "../../words";
import { type Break, penOfFiles, type Recommended, useRehearsal } from "./asking";
import { BreakDrawer } from "./BreakDrawer";
import { days } from "./Ends";
import { Group } from "./Leftovers";
import type { Put } from "../../shell/address";
import css from "./Recommend.module.css";
import { bucketOf, spanIn, spanText } from "./series";
import { Timeline } from "./Timeline";

interface Props {
  where: string;
  files: Recommended["files"];
  days: number;
  search: URLSearchParams;
  put: Put;
}

export function Breaks({ where, files, days, search, put }: Props) {
  const [opened, open] = useState<Break | null>(null);
  const draft = useMemo(() => penOfFiles(files), [files]);
  const span = spanIn(search.get("span"));
  const bucket = bucketOf(days);
  const asked = { where, draft, bucket_h: bucket };
  const whole = useRehearsal({ ...asked, since: null, until: null }, true);
  const part = useRehearsal({ ...asked, since: span && new Date(span.since).toISOString(), until: span && new Date(span.until).toISOString() }, span !== null);
  const found = span ? part : whole;
  if (whole.error) return <ErrorBox error={whole.error} onRetry={() => void whole.refetch()} />;
  if (!whole.data) return <Loading lines={8} />;
  return (
    <>
      <Card title="Connections over time" tools={span ? <Button isTight icon="close" onClick={() => put({ span: "" })}>All of the time</Button> : <span className="soft small">drag over a stretch to look at it alone</span>}>
        <Timeline series={whole.data.series} bucketH={bucket} span={span} onSpan={(next) => put({ span: spanText(next) })} />
      </Card>
      {found.error && <ErrorBox error={found.error} />}
      {found.data && (
        <Card title={found.data.breaks.length ? "What would stop" : "Nothing would stop"} isFlush tools={<span className="soft small">{span ? `${moment(new Date(span.since).toISOString()).slice(0, 16)} to ${moment(new Date(span.until).toISOString()).slice(0, 16)}` : "all that is stored"}, every host enforcing</span>}>
          {found.data.breaks.length === 0 ? <Empty icon="check" title="Nothing anybody needs would stop"><p>Of what was seen, all passes under these rules, but for what is set aside below.</p></Empty> : <List breaks={found.data.breaks} onOpen={open} />}
          {found.data.more_breaks > 0 && <p className={css.more}>and {count(found.data.more_breaks)} more kinds, each rarer than these</p>}
        </Card>
      )}
      {found.data && found.data.noise.length > 0 && <Group title="Would stop, and nobody misses" tone="unknown" left={found.data.noise} />}
      {found.data && found.data.opens.length > 0 && <Note>{plural(found.data.opens.length, "kind")} of traffic that is blocked today would pass: look at the plan in Policies.</Note>}
      {opened && <BreakDrawer one={opened} files={files} onClose={() => open(null)} />}
    </>
  );
}

function List({ breaks, onOpen }: { breaks: readonly Break[]; onOpen: (one: Break) => void }) {
  const groups = useMemo(() => byService(breaks), [breaks]);
  return (
    <ul className={css.breaks}>
      {groups.map(([service, own]) => (
        <li key={service}>
          <h3><code>{printable(service)}</code> <span className="soft">{plural(own.reduce((sum, one) => sum + one.connections, 0), "connection")}</span></h3>
          <ul>
            {own.map((one, index) => (
              <li key={index}>
                <button type="button" onClick={() => onOpen(one)}>
                  <span className={css.ends}><b>{printable(one.source)}</b><Icon name="right" size={13} /><b>{printable(one.destination)}</b></span>
                  <span className="soft small">{plural(one.sources, "source")} to {plural(one.destinations, "destination")}, {days(one.first, one.last)}</span>
                  <span className="number">{count(one.connections)}</span>
                  <span className={css.hint}>{one.rule ? <Badge tone="bad" mark="✕">{one.rule}</Badge> : <span className="soft">no rule allows it</span>}{one.hint && <span className="soft">{printable(one.hint)}</span>}</span>
                </button>
              </li>
            ))}
          </ul>
        </li>
      ))}
    </ul>
  );
}

/** Services with most connections first. */
function byService(breaks: readonly Break[]): [string, Break[]][] {
  const found = new Map<string, Break[]>();
  for (const one of breaks) found.set(one.service, [...(found.get(one.service) ?? []), one]);
  const weight = (own: readonly Break[]): number => own.reduce((sum, one) => sum + one.connections, 0);
  return [...found].sort((a, b) => weight(b[1]) - weight(a[1]));
}
