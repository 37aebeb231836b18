import type uPlot from "uplot";

/** TimeAxis is the one time axis that all charts of a deployment share. */
export class TimeAxis {
  min: number;
  max: number;
  /** hovered is the chart under the pointer; the others only follow its line. */
  hovered: uPlot | null = null;
  private readonly charts = new Set<uPlot>();
  private readonly listeners = new Set<() => void>();

  constructor(readonly key: string, readonly from: number, readonly to: number) {
    this.min = from;
    this.max = to > from ? to : from + 1000;
  }

  join(chart: uPlot): void {
    this.charts.add(chart);
  }

  leave(chart: uPlot): void {
    this.charts.delete(chart);
    if (this.hovered === chart) this.hovered = null;
  }

  get zoomed(): boolean {
    return this.min !== this.from || this.max !== this.to;
  }

  set(min: number, max: number): void {
    if (!(max - min >= 1000)) return;
    this.min = Math.max(min, this.from);
    this.max = Math.min(max, this.to);
    for (const chart of this.charts) chart.setScale("x", { min: this.min, max: this.max });
    for (const listener of this.listeners) listener();
  }

  reset(): void {
    this.set(this.from, this.to);
  }

  onChange(listener: () => void): void {
    this.listeners.add(listener);
  }

  each(visit: (chart: uPlot) => void): void {
    for (const chart of this.charts) visit(chart);
  }
}
