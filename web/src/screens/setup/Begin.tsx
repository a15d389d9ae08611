// The four ways in. Home and the map show them while there is nothing else to show; the address says which is open.

import type { ReactNode } from "react";
import { useStatus } from "../../api/queries";
import { useMay } from "../../session/session";
import { useAddress } from "../../shell/address";
import { Badge } from "../../ui/Badge";
import { Button } from "../../ui/Button";
import { Icon, type IconName } from "../../ui/Icon";
import { DemoDialog } from "./DemoDialog";
import { FlowsDialog } from "./FlowsDialog";
import { HostDialog } from "./HostDialog";
import { InventoryDialog } from "./InventoryDialog";
import css from "./Setup.module.css";

interface Way {
  id: string;
  icon: IconName;
  title: string;
  about: string;
  gives: string;
  action: string;
  right: "enrol" | "label";
}

const WAYS: readonly Way[] = [
  { id: "host", icon: "server", title: "Pair a host", action: "Pair a host", right: "enrol", about: "An agent on Linux sees what its host talks to, by process, and enforces there. It begins in observe: nothing is dropped.", gives: "Sees and enforces" },
  { id: "inventory", icon: "tag", title: "Import an inventory", action: "Choose a file", right: "label", about: "Names, addresses and labels from a CMDB or a spreadsheet: CSV, JSON or YAML. You see what would change before it does.", gives: "Names and labels" },
  { id: "flows", icon: "pulse", title: "Import flow logs", action: "Choose files", right: "enrol", about: "AWS VPC flow logs or Zeek, compressed or not. With an inventory they make a map and a recommended policy without one agent.", gives: "Traffic, no agent" },
  { id: "demo", icon: "bulb", title: "Load the demo estate", action: "Load it", right: "enrol", about: "A recorded shop: web, API, databases, monitoring, and a scanner that does not belong. For looking around in a controller that is empty.", gives: "In a second" },
];

export function Begin({ lead }: { lead?: ReactNode }) {
  const { search, put } = useAddress();
  const status = useStatus().data;
  const may: Record<Way["right"], boolean> = { enrol: useMay("enrol"), label: useMay("label") };
  const open = (id: string): void => put({ do: id });
  const close = (): void => open("");
  const isEmpty = !status || (status.workloads === 0 && !status.policy_version);
  const way = WAYS.find((one) => one.id === search.get("do") && may[one.right]);
  return (
    <section className={css.ways} aria-label="Ways to begin">
      {lead}
      <ul>
        {WAYS.map((one) => {
          const isIdle = !may[one.right] || (one.id === "demo" && !isEmpty);
          const why = !may[one.right] ? "Your role may not; ask an administrator." : "Only while there is no workload and no policy.";
          return (
            <li key={one.id} className={css.way}>
              <i><Icon name={one.icon} size={20} /></i>
              <div><h2>{one.title}</h2><Badge>{one.gives}</Badge></div>
              <p>{one.about}</p>
              {isIdle ? <p className="soft small">{why}</p> : <Button look={one.id === "host" ? "primary" : "plain"} onClick={() => open(one.id)}>{one.action}</Button>}
            </li>
          );
        })}
      </ul>
      {way?.id === "host" && <HostDialog onClose={close} />}
      {way?.id === "flows" && <FlowsDialog onClose={close} />}
      {way?.id === "inventory" && <InventoryDialog onClose={close} />}
      {way?.id === "demo" && <DemoDialog onClose={close} />}
    </section>
  );
}
