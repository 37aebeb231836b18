# Writes series.json, known series as R's own package datasets (4.2.2) has them:
#   Rscript series.R > series.json
figures <- function(x) paste(format(as.numeric(x), digits = 15, trim = TRUE, drop0trailing = TRUE, scientific = FALSE), collapse = ", ")
series <- list(
  AirPassengers = AirPassengers, LakeHuron = LakeHuron, Nile = Nile, WWWusage = WWWusage,
  lh = lh, log10lynx = log10(lynx), lynx = lynx, sunspots = sunspot.year
)
cat("{\n")
cat(paste(sprintf("  \"%s\": [%s]", names(series), sapply(series, figures)), collapse = ",\n"))
cat("\n}\n")
