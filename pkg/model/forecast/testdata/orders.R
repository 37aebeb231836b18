# Writes orders.json, the orders that the stepwise search of R's package
# forecast 8.20 (R 4.2.2) finds, without its approximations:
#   Rscript orders.R > orders.json
suppressMessages(library(forecast))
series <- list(
  AirPassengers = AirPassengers, LakeHuron = LakeHuron, Nile = Nile, WWWusage = WWWusage,
  lh = lh, log10lynx = log10(lynx), lynx = lynx, sunspots = sunspot.year
)
search <- function(name) {
  m <- auto.arima(ts(as.numeric(series[[name]])), approximation = FALSE, stepwise = TRUE)
  o <- arimaorder(m)
  sprintf("  {\"series\": \"%s\", \"p\": %d, \"d\": %d, \"q\": %d, \"aicc\": %.10g}", name, o[1], o[2], o[3], m$aicc)
}
cat("[\n")
cat(paste(sapply(names(series), search), collapse = ",\n"))
cat("\n]\n")
