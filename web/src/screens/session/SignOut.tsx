// Log out. What the browser kept of the estate goes with it, so unsaved policies are asked about first.

import { useMutation } from "@tanstack/react-query";
import { type ReactNode, useState } from "react";
import { useDrafts } from "../../parts/drafts";
import { signOut } from "../../session/session";
import { ErrorBox } from "../../ui/Box";
import { Button } from "../../ui/Button";
import { Dialog } from "../../ui/Over";
import { plural, printable } from "../../words";

/** What is to be shown beside the page, and how to begin. */
export function useSignOut(): [ReactNode, () => void] {
  const files = Object.keys(useDrafts().drafts);
  const [isAsking, setAsking] = useState(false);
  const out = useMutation({ mutationFn: () => signOut() });
  const begin = (): void => {
    setAsking(files.length > 0);
    if (files.length === 0) out.mutate();
  };
  const close = (): void => (setAsking(false), out.reset());
  const shown = (isAsking || out.error !== null) && (
    <Dialog
      title="Log out" onClose={close}
      foot={<><Button onClick={close}>Stay</Button><Button look="danger" isBusy={out.isPending} onClick={() => out.mutate()}>{files.length > 0 ? "Discard and log out" : "Log out"}</Button></>}
    >
      {files.length > 0 && <p>{plural(files.length, "unsaved policy", "unsaved policies")} in this browser will be discarded: {files.map(printable).join(", ")}. Whoever uses it next finds nothing of the estate.</p>}
      {out.error && <ErrorBox error={out.error} />}
    </Dialog>
  );
  return [shown, begin];
}
