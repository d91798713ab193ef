"""The columns of FOCUS (FinOps Open Cost and Usage Specification, CC-BY-4.0): names and kinds, by dataset.

1.4 is what is exported; the profile 1.2 is for tools that know no later one. Kinds: s text, d decimal, t moment (UTC),
j JSON. Columns of our own come last and begin with x_.
"""

from __future__ import annotations

OWN = "x_Kind:s x_Project:s x_LateMonth:s x_FxRate:d x_FxSource:s x_FxDate:t"
_COST = (
    "BilledCost:d BillingAccountId:s BillingAccountName:s BillingAccountType:s BillingCurrency:s BillingPeriodEnd:t "
    "BillingPeriodStart:t CapacityReservationId:s CapacityReservationStatus:s ChargeCategory:s ChargeClass:s "
    "ChargeDescription:s ChargeFrequency:s ChargePeriodEnd:t ChargePeriodStart:t CommitmentDiscountCategory:s "
    "CommitmentDiscountId:s CommitmentDiscountName:s CommitmentDiscountQuantity:d CommitmentDiscountStatus:s "
    "CommitmentDiscountType:s CommitmentDiscountUnit:s ConsumedQuantity:d ConsumedUnit:s ContractedCost:d "
    "ContractedUnitPrice:d EffectiveCost:d InvoiceId:s InvoiceIssuerName:s ListCost:d ListUnitPrice:d "
    "PricingCategory:s PricingCurrency:s PricingQuantity:d PricingUnit:s RegionId:s RegionName:s ResourceId:s "
    "ResourceName:s ResourceType:s ServiceCategory:s ServiceName:s ServiceSubcategory:s SkuId:s SkuMeter:s "
    "SkuPriceDetails:j SkuPriceId:s SubAccountId:s SubAccountName:s SubAccountType:s Tags:j "
)


def _columns(text: str) -> dict[str, str]:
    return dict(word.split(":") for word in text.split())


COST_AND_USAGE = _columns(f"{_COST} ContractApplied:j HostProviderName:s InvoiceDetailId:s ServiceProviderName:s {OWN}")
COST_AND_USAGE_1_2 = _columns(f"{_COST} ProviderName:s PublisherName:s {OWN}")
CONTRACT_COMMITMENT = _columns(
    "BillingCurrency:s ContractCommitmentApplicability:j ContractCommitmentBenefitCategory:s "
    "ContractCommitmentCategory:s ContractCommitmentCost:d ContractCommitmentCreated:t "
    "ContractCommitmentDescription:s ContractCommitmentDiscountPercentage:d ContractCommitmentDurationType:s "
    "ContractCommitmentFulfillmentInterval:s ContractCommitmentId:s ContractCommitmentLastUpdated:t "
    "ContractCommitmentLifecycleStatus:s ContractCommitmentModel:s ContractCommitmentOfferCategory:s "
    "ContractCommitmentPaymentInterval:s ContractCommitmentPaymentModel:s "
    "ContractCommitmentPaymentUpfrontPercentage:d ContractCommitmentPeriodEnd:t ContractCommitmentPeriodStart:t "
    "ContractCommitmentQuantity:d ContractCommitmentType:s ContractCommitmentUnit:s ContractId:s ContractPeriodEnd:t "
    "ContractPeriodStart:t InvoiceIssuerName:s ServiceProviderName:s"
)
INVOICE_DETAIL = _columns(
    "BilledCost:d BillingAccountId:s BillingCurrency:s BillingPeriodEnd:t BillingPeriodStart:t ChargeCategory:s "
    "InvoiceDetailCreated:t InvoiceDetailDescription:s InvoiceDetailGrain:j InvoiceDetailId:s "
    "InvoiceDetailLastUpdated:t InvoiceId:s InvoiceIssueDate:t InvoiceIssueStatus:s InvoiceIssuerName:s "
    "PaymentDueDate:t PaymentTerms:s PurchaseOrderNumber:s ReferenceInvoiceId:s"
)
BILLING_PERIOD = _columns(
    "BillingPeriodCreated:t BillingPeriodEnd:t BillingPeriodLastUpdated:t BillingPeriodStart:t BillingPeriodStatus:s "
    "InvoiceIssuerName:s"
)
