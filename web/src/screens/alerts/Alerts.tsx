// What people should look at, as it comes; and who is in quarantine.

import { useMemo, useState } from "react";
import { useAlerts, useQuarantines } from "../../api/queries";
import type { Alert } from "../../api/types";
import { useAddress } from "../../shell/address";
import { SeverityBadge } from "../../ui/Badge";
import { Choice, Empty, ErrorBox, Loading, Tabs } from "../../ui/Box";
import { Button } from "../../ui/Button";
import { Icon } from "../../ui/Icon";
import { Page } from "../../ui/Page";
import { useNow } from "../../ui/useNow";
import { ago, count, moment, plural, printable } from "../../words";
import { AlertDrawer } from "./AlertDrawer";
import css from "./Alerts.module.css";
import { type By, caseOf, type Group, grouped } from "./groups";
import { Quarantines } from "./Quarantines";

const BY: readonly { id: By; name: string }[] = [{ id: "severity", name: "Severity" }, { id: "kind", name: "Kind" }, { id: "subject", name: "Host" }];
const SHOWN: readonly { id: "open" | "all"; name: string }[] = [{ id: "open", name: "Not closed" }, { id: "all", name: "All" }];
const MOST = 100;

export default function Alerts() {
  const { search, put } = useAddress();
  const [shown, setShown] = useState<"open" | "all">("open");
  const [by, setBy] = useState<By>("severity");
  const found = useAlerts(shown === "all");
  const quarantines = useQuarantines();
  const tab = search.get("tab") === "quarantines" ? "quarantines" : "alerts";
  const opened = search.get("alert") ?? "";
  const tabs = [{ id: "alerts", name: "Alerts", count: found.data?.items.length }, { id: "quarantines", name: "Quarantines", count: quarantines.data?.length }]
    .map(({ id, name, count: n }) => (n === undefined ? { id, name } : { id, name, count: n }));
  const isAlerts = tab === "alerts";
  return (
    <Page
      title="Alerts" isSheet
      tools={
        <>
          {isAlerts && <Choice label="Which" values={SHOWN} chosen={shown} onChoose={setShown} />}
          {isAlerts && <Choice label="Group by" values={BY} chosen={by} onChoose={setBy} />}
          <Tabs label="What" panel="alerts-panel" tabs={tabs} chosen={tab} onChoose={(id) => put({ tab: id === "alerts" ? "" : id })} />
        </>
      }
      side={isAlerts && opened && <AlertDrawer key={opened} id={opened} known={found.data?.items.find((one) => one.id === opened)} onClose={() => put({ alert: "" })} />}
    >
      <div id="alerts-panel" role="tabpanel" className={css.scroll} aria-label={isAlerts ? "Alerts" : "Quarantines"}>
        {!isAlerts ? (
          <Quarantines />
        ) : found.error && !found.data ? (
          <ErrorBox error={found.error} onRetry={() => void found.refetch()} />
        ) : !found.data ? (
          <Loading lines={8} />
        ) : found.data.items.length === 0 ? (
          <Quiet isAll={shown === "all"} />
        ) : (
          <List alerts={found.data.items} by={by} opened={opened} onOpen={(id) => put({ alert: id })} />
        )}
      </div>
    </Page>
  );
}

function List({ alerts, by, opened, onOpen }: { alerts: readonly Alert[]; by: By; opened: string; onOpen: (id: string) => void }) {
  const groups = useMemo(() => grouped(alerts, by), [alerts, by]);
  const now = useNow();
  return <>{groups.map((group) => <GroupOf key={`${by} ${group.name}`} group={group} by={by} opened={opened} onOpen={onOpen} now={now} />)}</>;
}

function GroupOf({ group, by, opened, onOpen, now }: { group: Group; by: By; opened: string; onOpen: (id: string) => void; now: number }) {
  const [isOpen, setOpen] = useState(true);
  const [most, setMost] = useState(MOST);
  return (
    <section className={css.group}>
      <header>
        <button type="button" aria-expanded={isOpen} onClick={() => setOpen(!isOpen)}>
          <Icon name="down" />{by !== "severity" && <SeverityBadge severity={group.worst} />}{printable(group.name)}<small>{count(group.alerts.length)}</small>
        </button>
      </header>
      {isOpen && group.alerts.slice(0, most).map((alert) => <Line key={alert.id} alert={alert} isOpened={alert.id === opened} onOpen={onOpen} now={now} />)}
      {isOpen && group.alerts.length > most && <div className={css.more}><Button isTight onClick={() => setMost(most + 10 * MOST)}>{plural(group.alerts.length - most, "more", "more")}</Button></div>}
    </section>
  );
}

function Line({ alert, isOpened, onOpen, now }: { alert: Alert; isOpened: boolean; onOpen: (id: string) => void; now: number }) {
  const told = caseOf(alert);
  const isFresh = now - Date.parse(alert.last) < 10_000;
  const state = alert.state === "open" ? "" : `${alert.state}${told.handledBy ? ` by ${told.handledBy}` : ""} · `;
  return (
    <button type="button" className={`${css.alert} ${isFresh ? css.fresh : ""}`} aria-pressed={isOpened} onClick={() => onOpen(isOpened ? "" : alert.id)}>
      <span><SeverityBadge severity={alert.severity} /></span>
      <div><p>{printable(alert.message)}</p><p className="soft small">{state}{alert.kind}{alert.subject && ` · ${printable(alert.subject)}`}{told.service && ` · ${printable(told.service)}`}</p></div>
      <small title={moment(alert.last)}>{alert.count > 1 && <><b>{count(alert.count)}×</b> · </>}{ago(alert.last, now)}</small>
    </button>
  );
}

function Quiet({ isAll }: { isAll: boolean }) {
  return (
    <Empty icon="bell" title={isAll ? "Nothing was ever told" : "Nothing to look at"}>
      <p>What hosts stop or would stop, tampering, drift, hosts that are not heard, and changes of policy stand here as they come: alike ones are one alert with a count.</p>
    </Empty>
  );
}
