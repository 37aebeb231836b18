# Writes smoothing.json, exponential smoothing with a damped trend as fitted by
# R 4.2.2 with its package forecast 8.20:
#   Rscript smoothing.R > smoothing.json
suppressMessages(library(forecast))
figures <- function(x) sprintf("[%s]", paste(sprintf("%.12g", as.numeric(x)), collapse = ", "))
fit <- function(name, x, season) {
  x <- ts(as.numeric(x), frequency = max(season, 1))
  m <- if (season > 0) hw(x, damped = TRUE, h = 8)$model else holt(x, damped = TRUE, h = 8)$model
  first <- m$states[1, ]
  sprintf(
    "  {\"series\": \"%s\", \"alpha\": %.12g, \"beta\": %.12g, \"gamma\": %.12g, \"damping\": %.12g, \"level\": %.12g, \"trend\": %.12g, \"season\": %s, \"squares\": %.12g, \"forecasts\": %s}",
    name, m$par["alpha"], m$par["beta"], if (season > 0) m$par["gamma"] else 0, m$par["phi"], first["l"], first["b"],
    figures(if (season > 0) rev(first[-(1:2)]) else c()), sum(residuals(m)^2), figures(forecast(m, h = 8)$mean)
  )
}
cat("[\n")
cat(paste(c(
  fit("WWWusage", WWWusage, 0), fit("Nile", Nile, 0), fit("LakeHuron", LakeHuron, 0),
  fit("AirPassengers", AirPassengers, 0), fit("AirPassengers", AirPassengers, 12), fit("lh", lh, 0)
), collapse = ",\n"))
cat("\n]\n")
