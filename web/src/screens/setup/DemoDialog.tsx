// The recorded estate, for looking around.

import { useMutation } from "@tanstack/react-query";
import { useNavigate } from "react-router";
import { api, told } from "../../api/client";
import { client } from "../../api/queries";
import { ErrorBox } from "../../ui/Box";
import { Button } from "../../ui/Button";
import { Dialog, say } from "../../ui/Over";
import { count, plural } from "../../words";

export function DemoDialog({ onClose }: { onClose: () => void }) {
  const navigate = useNavigate();
  const load = useMutation({
    mutationFn: () => told(api.POST("/v1/demo", { body: { estate: "shop" } })),
    onSuccess: async (loaded) => {
      say(`${plural(loaded.workloads, "workload")} and ${count(loaded.conversations)} conversations are here`);
      await client.invalidateQueries();
      void navigate("/map");
    },
  });
  return (
    <Dialog
      title="Load the demo estate" about="A recording of a real estate in a lab, its clock moved to now." onClose={onClose}
      foot={<><Button onClick={onClose}>Cancel</Button><Button look="primary" isBusy={load.isPending} onClick={() => load.mutate()}>Load it</Button></>}
    >
      <p>It puts workloads of a file and their traffic into this controller: a shop in production and development with web, API, databases, cache and queue, its monitoring and backup, an office, and a scanner.</p>
      <p className="soft">No agent runs there and nothing is enforced. It is only taken while there is no workload and no policy; a controller that has had it is best begun anew for the real estate.</p>
      {load.error && <ErrorBox error={load.error} />}
    </Dialog>
  );
}
