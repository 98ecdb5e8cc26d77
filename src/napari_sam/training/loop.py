"""The training algorithm: dense supervision first, then prompts in interactive rounds (paper, appendix A)."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from itertools import count
from pathlib import Path

import torch
from torch import Tensor, nn

from napari_sam.errors import TrainingError
from napari_sam.model.sam import Sam
from napari_sam.predict.devices import has_bf16
from napari_sam.training import schedule
from napari_sam.training.averaging import encode, has_batch_norms, plain_copy, settle_statistics, update_average
from napari_sam.training.batches import Batch, BatchMaker, CropPlan, Draw, make_batch
from napari_sam.training.config import TrainConfig
from napari_sam.training.dense import dense_loss
from napari_sam.training.machine import interrupts_between_steps, write_state
from napari_sam.training.parts import choose_parts, encoder_learns, encoder_rests, make_optimizer
from napari_sam.training.prompts import first_prompts
from napari_sam.training.ratings import learn_ratings
from napari_sam.training.record import CsvLog
from napari_sam.training.rounds import prompt_seed, teach_rounds

BOX_SHARE = 0.3
"""Share of the steps whose first prompts are boxes."""
GRADIENT_NORM = 1.0
"""Longer gradients are shortened to this."""

Progress = Callable[[float, float, dict[str, float]], None]
"""(minutes so far, minutes in all, losses by name)."""
Validate = Callable[[Sam], dict[str, float]]
"""Judges a network; higher figures are better."""


class Trainer:
    """Trains one network; everything that changes from step to step lives here and in the saved state.

    Parameters
    ----------
    sam : Sam
        Changed in place, on `device`.
    draw : callable
        Gives training samples; it must survive pickling unless `config.workers` is 0.
    config : TrainConfig
    folder : path
        Of the saved state, the logs and the best weights.
    progress : callable, optional
        Called with each row of the log.
    device : torch.device
    validate : callable, optional
        Called as often as `config` says; the best weights by its figure `config.select_by` are kept.
    """

    def __init__(
        self,
        sam: Sam,
        draw: Draw,
        config: TrainConfig,
        folder: Path,
        progress: Progress | None = None,
        *,
        device: torch.device | None = None,
        validate: Validate | None = None,
    ) -> None:
        self.device = device or torch.device("cpu")
        self.config = config
        self.plan = CropPlan.of(sam)
        self.sam = sam.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        with torch.random.fork_rng(devices=[]):  # what is added to the network is random too
            torch.manual_seed(config.seed)
            choose_parts(sam, config)
        self.averaged = copy.deepcopy(sam).eval().requires_grad_(False)
        self.optimizer = make_optimizer(sam.parameters(), config, self.device)
        self.draw = draw
        self.folder = folder
        self.progress = progress
        self.validate = validate
        self.step = 0
        self.best: dict[str, float] = {}
        """Figures of the best validation so far, and its `step`."""
        self.minutes_before = 0.0
        self._started: float | None = None
        names = [f"{name}{n + 1}" for n in range(config.rounds) for name in ("mask", "iou", "iou_error")]
        self.log = CsvLog(folder / "log.csv", ["offset", "foreground", "border", "heat", *names])
        self.validations = CsvLog(folder / "validation.csv", ["one_click", "box", "ap50", "msa", "score"])

    # -- state ------------------------------------------------------------------------------------------------------

    @property
    def minutes(self) -> float:
        """Training time so far, resumed runs included."""
        running = 0.0 if self._started is None else time.monotonic() - self._started
        return self.minutes_before + running / 60

    @property
    def share(self) -> float:
        """How much of the training is over, from 0 to 1."""
        return self.step / self.config.steps if self.config.steps is not None else self.minutes / self.config.minutes

    def _start_clock(self) -> None:
        self._started = time.monotonic()

    def _stop_clock(self) -> None:
        self.minutes_before, self._started = self.minutes, None

    def save(self) -> None:
        """Write the state so that a later run continues from this step."""
        state = {
            "sam": self.sam.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "minutes": self.minutes,
            "best": self.best,
        }
        write_state(state, self.folder / "state.pt")

    def resume(self) -> bool:
        """Continue from a saved state, if there is one; says whether there was."""
        path = self.folder / "state.pt"
        if not path.is_file():
            return False
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
            self.sam.load_state_dict(state["sam"])
            self.averaged.load_state_dict(state["averaged"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step = int(state["step"])
            self.minutes_before = float(state["minutes"])
            self.best = dict(state.get("best", {}))
        except Exception as error:  # torch's reader meets damaged bytes with errors of any kind
            raise TrainingError(
                f"{path} cannot be gone on with, being damaged, or of another network or other trained parts "
                f"({type(error).__name__}); remove its folder to begin anew, or choose another output."
            ) from error
        for log in (self.log, self.validations):
            log.drop_after(self.step)
        return True

    # -- the loop ---------------------------------------------------------------------------------------------------

    def run(self) -> Sam:
        """Train until the time is over and give the result: the best validated weights, else the averaged ones.

        Saves as it goes. Ctrl-C takes effect between two steps; what is saved then leads to the same weights as if
        nothing had happened (exactly so where `config.steps` is given, on the same machine).
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with BatchMaker(self.draw, self.config, self.plan) as maker, interrupts_between_steps() as look:
                self._train(maker, look)
                return self._result()
        finally:
            self._stop_clock()
            self.save()

    def _train(self, maker: BatchMaker, look: Callable[[], None]) -> None:
        if self.share >= 1:
            return
        saved = validated = self.minutes
        for batch in maker.batches(count(self.step)):
            if self._started is None:  # starting the first processes is not training time
                self._start_clock()
            if self.share >= 1:
                break
            values = self._take_step(batch.to(self.device))
            if self.step % self.config.log_every == 0:
                self.log.write(self.step, self.minutes, values)
                if self.progress is not None:
                    self.progress(self.minutes, self._minutes_in_all, values)
            if self.minutes - saved > self.config.save_minutes:
                self.save()
                saved = self.minutes
            if self._is_time_to_validate(self.minutes - validated):
                self._judge(self._settled())
                validated = self.minutes
            look()

    @property
    def _minutes_in_all(self) -> float:
        return self.config.minutes if self.config.steps is None else self.minutes / max(self.share, 1e-9)

    def _take_step(self, batch: Batch) -> dict[str, float]:
        share = self.share
        for group in self.optimizer.param_groups:
            group["lr"] = schedule.learning_rate(self.config, self.step, share)
        self.optimizer.zero_grad()
        learns = encoder_learns(self.config)
        with torch.set_grad_enabled(learns), self._autocast():
            encoded = [output for output in encode(self.sam, batch) if output is not None]
        # Leaves of their own: all losses add their gradients there, and the encoder is worked back once.
        leaves = [output.detach().requires_grad_(learns) for output in encoded]
        values = self._teach_dense(batch, *leaves) if batch.targets else {}
        if share >= self._dense_share and (not values or self.step % self.config.prompt_every == 0):
            values |= self._teach_prompts(batch, leaves[0], share)
        taught = [(output, leaf.grad) for output, leaf in zip(encoded, leaves, strict=True) if leaf.grad is not None]
        if taught:
            outputs, gradients = zip(*taught, strict=True)
            torch.autograd.backward(outputs, gradients)
        nn.utils.clip_grad_norm_(self.sam.parameters(), GRADIENT_NORM)
        self.optimizer.step()
        self.step += 1
        update_average(self.averaged, self.sam, step=self.step, decay=self.config.ema)
        return values

    @property
    def _dense_share(self) -> float:
        """The part with dense supervision alone; none where nothing learns from it."""
        return self.config.dense_share if self.plan.dense and encoder_learns(self.config) else 0.0

    def _teach_dense(self, batch: Batch, embedding: Tensor, offsets: Tensor) -> dict[str, float]:
        """Add the gradients of the dense losses."""
        if self.sam.proposal_head is None:
            return {}
        with self._autocast():
            logits = self.sam.instance_head(embedding) if self.sam.instance_head is not None else None
            loss, values = dense_loss(
                logits, offsets, self.sam.proposal_head(embedding), batch.targets, batch.exhaustive
            )
        if loss.requires_grad:
            loss.backward()
        return values

    def _teach_prompts(self, batch: Batch, embedding: Tensor, share: float) -> dict[str, float]:
        """Add the gradients of the interactive rounds."""
        rng, point_seed = prompt_seed(self.config.seed, self.step)
        _, _, times = self.plan.crops_of(self.config, self.step)
        prompts = first_prompts(
            batch.labels,
            batch.places,
            batch.origins_px.cpu(),
            per_crop=self.config.prompts_per_crop * times,
            background_per_crop=tuple(self.config.background_points if whole else 0 for whole in batch.exhaustive),
            use_boxes=bool(rng.random() < BOX_SHARE),
            rng=rng,
            step_px=self.plan.mask_step_px,
        )
        if prompts is None:
            return {}
        rounds, masked = schedule.draw_rounds(self.config, rng)
        return teach_rounds(
            self.sam,
            prompts.to(self.device),
            embedding,
            rounds=rounds,
            masked=masked,
            balance=schedule.balance(self.config, share),
            seed=point_seed,
            autocast=self._autocast,
        )

    def _autocast(self) -> AbstractContextManager[object]:
        wanted = has_bf16(self.device) if self.config.bf16 is None else self.config.bf16
        return torch.autocast(self.device.type, dtype=torch.bfloat16) if wanted else nullcontext()

    # -- the result -------------------------------------------------------------------------------------------------

    def _is_time_to_validate(self, minutes: float) -> bool:
        if self.validate is None or self.share >= 1:  # the end has one of its own
            return False
        if self.config.validate_every is not None:
            return self.step % self.config.validate_every == 0
        return minutes >= self.config.validate_minutes

    def judge_start(self) -> None:
        """Validate the weights as they are before the first step, so that the result is no worse than they."""
        if self.validate is not None and self.step == 0 and not self.best:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._judge(plain_copy(self.averaged))

    def _judge(self, network: Sam) -> None:
        """Validate `network` and keep its weights if they are the best so far."""
        if self.validate is None:
            return
        was_running = self._started is not None
        self._stop_clock()
        figures = self.validate(network)
        self.validations.write(self.step, self.minutes, figures)
        if figures[self.config.select_by] > self.best.get(self.config.select_by, float("-inf")):
            self.best = {"step": float(self.step), **figures}
            write_state({"sam": network.state_dict(), "figures": self.best}, self.folder / "best.pt")
        if was_running:
            self._start_clock()

    def _settled(self) -> Sam:
        """The averaged weights as a plain network, ready for use; the state of the training is not touched."""
        network = plain_copy(self.averaged)
        if not self.step or encoder_rests(self.config):
            return network
        # Whole frames, as the network will see them: on crops around objects the statistics are others, and on
        # val/dsb2018 a click is then answered with a mean IoU of 0.70 instead of 0.72.
        if has_batch_norms(network.image_encoder) and not self.config.freeze_norms:
            settle_statistics(network, self._frames(), self.device)
        if network.instance_head is not None and "decoder" not in self.config.freeze:
            learn_ratings(network, self._frames(), self.device)
        return network

    def _frames(self) -> Iterator[Batch]:
        """Batches of whole frames; the same ones each time."""
        config = replace(self.config, crop_px=self.plan.frame_px, crops=4)
        made = (make_batch(step, self.draw, config, self.plan) for step in count())
        frames = 0
        while frames < self.config.frames:
            batch = next(made)
            frames += len(batch.images)
            yield batch

    def _result(self) -> Sam:
        self._stop_clock()
        network = self._settled()
        self._judge(network)
        if self.best:
            kept = torch.load(self.folder / "best.pt", map_location=self.device, weights_only=True)
            network.load_state_dict(kept["sam"])
        return network
