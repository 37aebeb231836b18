# Writes arima.json, fits by maximum likelihood and their forecasts, with R
# 4.2.2 and its package forecast 8.20:
#   Rscript arima.R > arima.json
suppressMessages(library(forecast))
series <- list(
  AirPassengers = AirPassengers, LakeHuron = LakeHuron, Nile = Nile, WWWusage = WWWusage,
  lh = lh, log10lynx = log10(lynx), lynx = lynx, sunspots = sunspot.year
)
figures <- function(x) sprintf("[%s]", paste(sprintf("%.10g", as.numeric(x)), collapse = ", "))
fit <- function(name, p, d, q, constant) {
  x <- ts(as.numeric(series[[name]]))
  control <- list(reltol = 1e-14, maxit = 1000)
  m <- Arima(x, order = c(p, d, q), include.constant = constant, method = "ML", optim.control = control)
  drift <- if (d == 1 && constant) seq_along(x)
  variance <- arima(x, order = c(p, d, q), include.mean = constant, xreg = drift, method = "ML", optim.control = control)$sigma2
  coefficients <- coef(m)
  mean <- coefficients[names(coefficients) %in% c("intercept", "drift")]
  sprintf(
    "  {\"series\": \"%s\", \"p\": %d, \"d\": %d, \"q\": %d, \"with_mean\": %s, \"ar\": %s, \"ma\": %s, \"mean\": %.10g, \"variance\": %.10g, \"aicc\": %.10g, \"forecasts\": %s}",
    name, p, d, q, tolower(as.character(constant)), figures(coefficients[grep("^ar", names(coefficients))]),
    figures(coefficients[grep("^ma", names(coefficients))]), if (length(mean)) mean else 0,
    variance, m$aicc, figures(forecast(m, h = 5)$mean)
  )
}
cat("[\n")
cat(paste(c(
  fit("lh", 1, 0, 0, TRUE), fit("lh", 3, 0, 0, TRUE), fit("lh", 0, 0, 2, TRUE),
  fit("WWWusage", 3, 1, 0, FALSE), fit("WWWusage", 1, 1, 1, FALSE), fit("WWWusage", 2, 2, 0, FALSE),
  fit("Nile", 0, 1, 1, FALSE), fit("Nile", 1, 1, 1, TRUE), fit("Nile", 0, 0, 0, TRUE),
  fit("LakeHuron", 2, 0, 0, TRUE), fit("LakeHuron", 1, 0, 1, TRUE), fit("LakeHuron", 0, 1, 0, TRUE),
  fit("log10lynx", 2, 0, 0, TRUE), fit("log10lynx", 2, 0, 4, TRUE), fit("lynx", 2, 0, 2, TRUE),
  fit("sunspots", 2, 0, 0, TRUE), fit("sunspots", 3, 0, 2, TRUE), fit("sunspots", 2, 1, 3, FALSE),
  fit("AirPassengers", 2, 1, 2, TRUE)
), collapse = ",\n"))
cat("\n]\n")
