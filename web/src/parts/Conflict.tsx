// Somebody was quicker: who changed what since one looked, and the ways on. Nothing was overwritten.

import { useQuery } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { api, told } from "../api/client";
import { asApiError } from "../api/errors";
import { keys } from "../api/queries";
import { changeOf } from "../screens/audit/told";
import { useMay } from "../session/session";
import { Icon } from "../ui/Icon";
import { useNow } from "../ui/useNow";
import { ago, moment, printable } from "../words";
import { meanwhile } from "./conflict";
import css from "./parts.module.css";

const LOOKED_THROUGH = 50;

/** `since`: when one looked, in milliseconds. `children`: the ways on, as buttons. */
export function Conflict({ error, since, children }: { error: unknown; since: number; children: ReactNode }) {
  const mayAudit = useMay("audit");
  const now = useNow();
  const found = useQuery({
    queryKey: [...keys.audit, "meanwhile", since],
    queryFn: ({ signal }) => told(api.GET("/v1/audit", { params: { query: { limit: LOOKED_THROUGH } }, signal })),
    enabled: mayAudit,
  });
  const entries = meanwhile(found.data ?? [], since);
  const { message, code } = asApiError(error);
  return (
    <div className={css.conflict} role="alert">
      <Icon name="person" size={18} />
      <div>
        <p><b>Somebody was quicker.</b> Nothing was changed: {printable(message)}. <code className="soft">{code}</code></p>
        {entries.length > 0 && (
          <ul aria-label="What others did meanwhile">
            {entries.map((one) => (
              <li key={one.seq}><b>{printable(one.actor)}</b> <span>{one.action}</span> <span className="soft" title={moment(one.at)}>{ago(one.at, now)}</span><small>{printable(changeOf(one))}</small></li>
            ))}
          </ul>
        )}
        <div>{children}</div>
      </div>
    </div>
  );
}
