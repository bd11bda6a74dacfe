package org.apache.beam.runners.fnexecution.control;

import java.util.Collections;
import org.apache.beam.model.fnexecution.v1.BeamFnApi.DelayedBundleApplication;
import org.apache.beam.model.fnexecution.v1.BeamFnApi.ProcessBundleResponse;
import org.apache.beam.runners.core.StateInternalsFactory;
import org.apache.beam.runners.core.StateNamespace;
import org.apache.beam.runners.core.StateNamespaces;
import org.apache.beam.runners.core.StateTags;
import org.apache.beam.runners.core.TimerInternalsFactory;
import org.apache.beam.sdk.coders.Coder;
import org.apache.beam.sdk.state.TimeDomain;
import org.apache.beam.sdk.transforms.windowing.BoundedWindow;
import org.apache.beam.sdk.util.CoderUtils;
import org.apache.beam.sdk.util.WindowedValue;
import org.joda.time.Instant;

/**
 * Takes the place of Beam's class of this name, whose names of states never end: the runner has a state for each time that a splittable function has given
 * its work back, for ever, until the task manager's memory is used up (https://github.com/apache/beam/issues/27648, mended in July 2026).
 *
 * <p>Here, names come again after {@value #NAMES}. States and timers belong to an element, and are looked at again when the timer fires, so this
 * is right as long as no element has more than that many pieces which wait at the same time.
 */
public class BundleCheckpointHandlers {
  private static final int NAMES = 64;

  public static class StateAndTimerBundleCheckpointHandler<T> implements BundleCheckpointHandler {
    public static final String SDF_PREFIX = "sdf_checkpoint";

    private final TimerInternalsFactory<T> timers;
    private final StateInternalsFactory<T> states;
    private final Coder<WindowedValue<T>> residuals;
    private final Coder windows;
    private int next;

    public StateAndTimerBundleCheckpointHandler(
        TimerInternalsFactory<T> timers, StateInternalsFactory<T> states, Coder<WindowedValue<T>> residuals, Coder windows) {
      this.timers = timers;
      this.states = states;
      this.residuals = residuals;
      this.windows = windows;
    }

    public static boolean isSdfTimer(String timer) {
      return timer.startsWith(SDF_PREFIX);
    }

    @Override
    public void onCheckpoint(ProcessBundleResponse response) {
      for (DelayedBundleApplication root : response.getResidualRootsList()) {
        if (root.hasApplication()) {
          try {
            schedule(root);
          } catch (Exception e) {
            throw new RuntimeException("cannot keep what a splittable function has given back", e);
          }
        }
      }
    }

    private void schedule(DelayedBundleApplication root) throws Exception {
      WindowedValue<T> residual =
          CoderUtils.decodeFromByteArray(residuals, root.getApplication().getElement().toByteArray());
      String name = SDF_PREFIX + ":" + next;
      next = (next + 1) % NAMES;
      Instant due = Instant.now();
      if (root.hasRequestedTimeDelay()) {
        due = due.plus(root.getRequestedTimeDelay().getSeconds() * 1000 + root.getRequestedTimeDelay().getNanos() / 1_000_000);
      }
      // The watermark waits for the earliest of what the function says that is still to come.
      Instant hold =
          root.getApplication().getOutputWatermarksMap().values().stream()
              .map(at -> Instant.ofEpochMilli(at.getSeconds() * 1000 + at.getNanos() / 1_000_000))
              .min(Instant::compareTo)
              .orElse(BoundedWindow.TIMESTAMP_MIN_VALUE);
      for (BoundedWindow window : residual.getWindows()) {
        StateNamespace namespace = StateNamespaces.window(windows, window);
        timers.timerInternalsForKey(residual.getValue())
            .setTimer(namespace, name, "", due, hold, TimeDomain.PROCESSING_TIME);
        states.stateInternalsForKey(residual.getValue())
            .state(namespace, StateTags.value(name, residuals))
            .write(WindowedValue.of(residual.getValue(), residual.getTimestamp(), Collections.singletonList(window), residual.getPane()));
      }
    }
  }
}
