// How hosts, inventory and traffic come in, and who may do what.

import { useMay } from "../../session/session";
import { useAddress } from "../../shell/address";
import { Tabs } from "../../ui/Box";
import { Page } from "../../ui/Page";
import { Begin } from "./Begin";
import { Invitations } from "./Invitations";
import { Profiles } from "./Profiles";
import { Settings } from "./Settings";
import css from "./Setup.module.css";
import { Tokens } from "./Tokens";

const TABS = [
  { id: "begin", name: "Bring in", right: "read", page: BringIn }, { id: "profiles", name: "Pairing profiles", right: "read", page: Profiles },
  { id: "settings", name: "Settings", right: "read", page: Settings },
  { id: "invitations", name: "Invitations", right: "enrol", page: Invitations }, { id: "tokens", name: "API tokens", right: "tokens", page: Tokens },
] as const;

export default function Setup() {
  const { search, put } = useAddress();
  const rights: Record<string, boolean> = { read: true, enrol: useMay("enrol"), tokens: useMay("tokens") };
  const tabs = TABS.filter((one) => rights[one.right]);
  const chosen = tabs.find((one) => one.id === search.get("tab")) ?? TABS[0];
  const choose = (id: string): void => put({ do: "", tab: id === "begin" ? "" : id });
  const Shown = chosen.page;
  return (
    <Page title="Setup" isSheet={chosen.id !== "begin"} tools={<Tabs label="What" panel="setup-panel" tabs={tabs} chosen={chosen.id} onChoose={choose} />}>
      <div id="setup-panel" role="tabpanel" aria-label={chosen.name} className={css.panel}><Shown /></div>
    </Page>
  );
}

function BringIn() {
  return <div className={css.begin}><Begin /></div>;
}
