// From what was seen to a policy: choose an application, look at each rule with its evidence, take what convinces.

import { useAddress } from "../../shell/address";
import { Choice } from "../../ui/Box";
import { Button } from "../../ui/Button";
import { Page } from "../../ui/Page";
import { printable } from "../../words";
import { Applications } from "./Applications";
import type { Level } from "./asking";
import { Proposal } from "./Proposal";
import css from "./Recommend.module.css";

const LEVELS: readonly { id: Level; name: string; title: string }[] = [
  { id: "ringfence", name: "Ring-fence", title: "Inside the application everything may talk; in and out only what was seen" },
  { id: "tier", name: "Tier", title: "Between roles, whatever the port" },
  { id: "port", name: "Port", title: "Between roles, on the services that were seen" },
];
const TIGHTEST = 10;
const USUAL = 5;

export default function Recommend() {
  const { search, put } = useAddress();
  const app = search.get("app") ?? (search.get("whole") === "1" ? "" : null);
  const level = LEVELS.find((one) => one.id === search.get("level"))?.id ?? "port";
  const told = search.get("tight");
  const tight = told !== null && /^(\d|10)$/.test(told) ? Number(told) : USUAL;
  if (app === null) return <Page title="Recommend" about="a policy for what was seen"><Applications onChoose={(chosen) => put(chosen ? { app: chosen } : { whole: "1" }, true)} /></Page>;
  return (
    <Page
      title="Recommend" about={app ? printable(app) : "the whole estate"}
      tools={
        <>
          <Choice label="Level" values={LEVELS} chosen={level} onChoose={(id) => put({ level: id === "port" ? "" : id, none: "", but: "" })} />
          <Tightness value={tight} onChange={(value) => put({ tight: value === USUAL ? "" : String(value), none: "", but: "" })} />
          <Button icon="undo" onClick={() => put({ app: "", whole: "", none: "", but: "", tab: "", span: "", rule: "" })}>Other application</Button>
        </>
      }
    >
      <Proposal key={`${app} ${level} ${tight}`} wanted={{ app, level, tight }} search={search} put={put} />
    </Page>
  );
}

function Tightness({ value, onChange }: { value: number; onChange: (value: number) => void }) {
  const word = value <= 2 ? "general" : value >= 8 ? "only what was seen" : "between";
  return (
    <label className={css.tight} title="General rules hold for the next host too; tight ones permit nothing that was not seen">
      <span>Tightness</span>
      <input type="range" min={0} max={TIGHTEST} value={value} aria-valuetext={`${value} of ${TIGHTEST}, ${word}`} onChange={(event) => onChange(Number(event.target.value))} />
      <b>{value}</b>
    </label>
  );
}
