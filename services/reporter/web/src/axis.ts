import type uPlot from "uplot";

/** TimeAxis is the one time axis that all charts of a deployment share. */
export class TimeAxis {
  min: number;
  max: number;
  /** hovered is the chart under the pointer; the others only follow its line. */
  hovered: uPlot | null = null;
  private readonly charts = new Set<uPlot>();
  private listener: () => void = () => {};

  constructor(readonly key: string, public from: number, public to: number) {
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
    this.apply();
  }

  /** extend moves the whole range on. What is zoomed into stays in view. */
  extend(from: number, to: number): void {
    const zoomed = this.zoomed;
    this.from = from;
    this.to = to > from ? to : from + 1000;
    if (!zoomed || this.min < from) {
      this.min = this.from;
      this.max = this.to;
    }
    this.apply();
    // Where neither scale changed, the figures may have.
    for (const chart of this.charts) chart.redraw();
  }

  private apply(): void {
    for (const chart of this.charts) chart.setScale("x", { min: this.min, max: this.max });
    this.listener();
  }

  reset(): void {
    this.set(this.from, this.to);
  }

  /** onChange sets what is told of every change. */
  onChange(listener: () => void): void {
    this.listener = listener;
  }

  each(visit: (chart: uPlot) => void): void {
    for (const chart of this.charts) visit(chart);
  }
}
