// Before anybody is chosen: what is critical, and who reaches it today; who is most worth asking about.

import { Link } from "react-router";
import { usePosture, useWorkloads } from "../../api/queries";
import { Badge } from "../../ui/Badge";
import { Card, Empty, ErrorBox, Loading } from "../../ui/Box";
import { Button } from "../../ui/Button";
import { count, plural, printable } from "../../words";
import type { Way } from "./asking";
import css from "./Reach.module.css";

const SOME = 8;

export function Start({ way, onChoose }: { way: Way; onChoose: (of: string, way: Way) => void }) {
  const posture = usePosture();
  const workloads = useWorkloads("").data?.items;
  if (posture.error) return <ErrorBox error={posture.error} onRetry={() => void posture.refetch()} />;
  if (!posture.data || !workloads) return <Loading />;
  if (workloads.length === 0) return <Card><Empty icon="reach" title="Nobody is here to reach anybody" actions={<Link to="/setup">Bring hosts in</Link>}><p>With workloads and a policy, this page tells how far an intruder gets from any of them, and who reaches what is critical.</p></Empty></Card>;
  const { jewels } = posture.data;
  return (
    <div className={css.start}>
      <Card title="Who reaches what is critical" isFlush>
        {jewels.length === 0 ? (
          <Empty icon="shield" title="No segment is marked as critical"><p>Write <code>crown_jewel: true</code> at a segment of a policy, and it is watched here and on Home. Until then ask about any segment or selector above.</p></Empty>
        ) : (
          <ul className={css.choices}>
            {jewels.map((jewel) => (
              <li key={jewel.segment}>
                <button type="button" onClick={() => onChoose(jewel.segment, "to")}>
                  <span><b>◆ {printable(jewel.segment)}</b> <span className="soft">{plural(jewel.workloads, "workload")}, {count(jewel.enforcing)} enforcing</span></span>
                  <span className="number">{count(jewel.workloads_now)} <span className="soft">reach it today, {count(jewel.workloads_allowed)} once enforced</span></span>
                  {jewel.is_open_to_internet_now ? <Badge tone="bad" mark="!">internet now</Badge> : jewel.is_open_to_internet ? <Badge tone="warning" mark="!">internet allowed</Badge> : <Badge tone="good" mark="✓">no internet</Badge>}
                </button>
              </li>
            ))}
          </ul>
        )}
      </Card>
      <Card title={way === "from" ? "If one of these were compromised" : "Who reaches one of these"}>
        <div className={css.chips}>
          {way === "from" && <Button onClick={() => onChoose("internet", way)}>internet</Button>}
          {workloads.slice(0, SOME).map((one) => <Button key={one.uuid} onClick={() => onChoose(one.name, way)}>{printable(one.name)}</Button>)}
        </div>
      </Card>
    </div>
  );
}
